"""`isochrone demo fleet` shows what it promises, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

from isochrone.testing.demo.fleet import MODEL
from isochrone.weights import here

pytestmark = [pytest.mark.model, pytest.mark.timeout(180)]
DEMO = [sys.executable, "-m", "isochrone.cli", "demo", "fleet"]


@pytest.fixture(autouse=True)
def model() -> None:
    if here.find(MODEL) is None:
        pytest.skip("the model is missing: isochrone pull smollm2-135m")


def started(*words: str) -> subprocess.Popen[str]:
    """In a session of its own, which tells its processes from all others."""
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(
        [*DEMO, *words], env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def those_with(folder: str) -> list[str]:
    """Command lines of processes whose environment or words name that folder."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/environ", "rb") as environ, open(f"/proc/{name}/cmdline", "rb") as words:
                if folder.encode() in environ.read():
                    found.append(words.read().decode(errors="replace"))
        except OSError:
            continue  # it has just ended, or is another user's
    return found


def test_a_node_is_killed_in_the_middle_and_no_word_changes(tmp_path) -> None:
    process = started("--for", "1ms", "--json")
    said, told = process.communicate(timeout=120)
    assert process.returncode == 0, told
    shown = json.loads(said)
    assert shown["is_same"] and shown["place"] != shown["went_on_at"]
    assert [attempt["why"] for attempt in shown["route"]["attempts"]] == ["first", "continued"]
    assert "(continued)" in shown["explained"] or shown["went_on_at"] in shown["explained"]
    assert shown["pause_s"] > 0 and len(shown["text"].split()) > 20


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 130), (signal.SIGKILL, -9)])
def test_it_ends_every_process_however_it_is_ended(number: signal.Signals, code: int) -> None:
    process = started()
    assert process.stdout is not None
    folder = next(line.split()[4].rpartition("/")[0] for line in process.stdout if line.startswith("The fleet file is"))
    assert len(those_with(folder)) >= 5
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == code, told
    while those_with(folder):  # the kernel is told to end them, and pytest-timeout bounds the wait
        os.sched_yield()
    assert os.path.exists(folder) == (number == signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)
