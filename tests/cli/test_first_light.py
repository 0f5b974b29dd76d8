"""The whole road on the real model: a command answers, a server answers, and what must not be loaded is not."""

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from openai import OpenAI

from isochrone.weights import here

pytestmark = [pytest.mark.model, pytest.mark.timeout(300)]
PROMPT = "The capital of France is"


@pytest.fixture(scope="module")
def model():
    path = here.find("smollm2-135m")
    if path is None:
        pytest.skip("the model is missing: isochrone pull smollm2-135m")
    return str(path)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Caches of these tests alone, so that the first start is a first start."""
    return tmp_path_factory.mktemp("home")


def start(home, *arguments, **settings):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ISOCHRONE_")}
    environment |= {"ISOCHRONE_HOME": str(home), **{f"ISOCHRONE_{k.upper()}": v for k, v in settings.items()}}
    return subprocess.Popen(
        [sys.executable, "-m", "isochrone.cli", *arguments], env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def complete(home, model, *arguments, **settings):
    process = start(home, "complete", model, PROMPT, "--max-tokens", "12", "--json", *arguments, **settings)
    out, err = process.communicate(timeout=250)
    assert process.returncode == 0, err
    return json.loads(out)


def test_complete_answers_and_the_text_does_not_depend_on_threads(home, model):
    texts = {complete(home, model, threads=str(threads))["text"] for threads in (1, 2)}
    assert len(texts) == 1
    assert "Paris" in texts.pop()


def test_a_warm_start_reports_nothing_but_the_answer(home, model):
    complete(home, model)
    process = start(home, "complete", model, PROMPT, "--max-tokens", "2")
    _, err = process.communicate(timeout=250)
    assert err.startswith("first token after") and err.count("\n") == 1


@contextmanager
def serving(home, model):
    process = start(home, "up", model, "--name", "small", "--port", "0", "--context", "512")
    try:
        lines = []
        for line in process.stderr:  # it ends when the process does
            lines.append(line)
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                break
        else:
            pytest.fail("".join(lines))
        yield process, found[0]
    finally:
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err


def maps_of(process_id):
    """Files mapped by a process and its children."""
    ids = [process_id, *map(int, Path(f"/proc/{process_id}/task/{process_id}/children").read_text().split())]
    return {id: Path(f"/proc/{id}/maps").read_text() for id in ids}


def test_a_server_answers_the_openai_sdk_without_torch_or_llvm_in_its_memory(home, model):
    with serving(home, model) as (process, url), OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        chat = client.chat.completions.create(
            model="small", messages=[{"role": "user", "content": "Say hello to a friend."}], stream=True,
            max_tokens=12, temperature=0,
        )  # fmt: skip
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chat if chunk.choices)
        assert len(text.split()) > 1
        maps = maps_of(process.pid)
        assert len(maps) >= 2, "the engine is a process of its own"
        for name in ("torch", "llvmlite"):
            assert not [id for id, text in maps.items() if name in text], f"{name} is mapped by a server"
        assert "numpy" not in maps[process.pid], "a warm gateway has loaded NumPy"
        assert "small" in run_ps(home)
    assert "No server" in run_ps(home)


def test_the_very_first_start_loads_neither_torch_nor_llvm_and_no_numpy_beside_the_connections(tmp_path, model):
    with serving(tmp_path, model) as (process, url), OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        client.completions.create(model="small", prompt=PROMPT, max_tokens=1)
        maps = maps_of(process.pid)
        assert not [id for id, text in maps.items() if "torch" in text or "llvmlite" in text]
        assert "numpy" not in maps[process.pid]


def run_ps(home):
    return start(home, "ps").communicate(timeout=60)[0]
