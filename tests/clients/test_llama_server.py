"""Our place against llama.cpp's own server, with any GGUF model: what matters is the wire, not what the model says.

ISOCHRONE_LLAMA_SERVER  the binary;  ISOCHRONE_LLAMA_MODEL  a .gguf file
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from isochrone.budget import Budget, Deadline
from isochrone.errors import BadRequest, ContextTooLong
from isochrone.places.openai_place import OpenAIPlace
from isochrone.places.place import Chat, Delta, Message, Partial, Prompted, Request, Sampling, Text, TokenIds

BINARY = os.environ.get("ISOCHRONE_LLAMA_SERVER") or shutil.which("llama-server")
MODEL = os.environ.get("ISOCHRONE_LLAMA_MODEL", "")
pytestmark = pytest.mark.skipif(
    BINARY is None or not Path(MODEL).is_file(),
    reason="llama-server is not on the PATH (or at ISOCHRONE_LLAMA_SERVER), or ISOCHRONE_LLAMA_MODEL names no file",
)
CHAT = Chat((Message("user", "Name two rivers."),))
GREEDY = Sampling(temperature=0.0)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(BINARY), "-m", MODEL, "--port", str(port), "-c", "2048", "-t", "2", "--metrics", "--jinja"]
    libraries = {"LD_LIBRARY_PATH": str(Path(str(BINARY)).parent)}
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ | libraries
    )
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
async def place(url: str) -> AsyncIterator[OpenAIPlace]:
    place = OpenAIPlace("llama", url)
    async with asyncio.timeout(120):
        while place.status().state != "ready" or place.flavour != "llamacpp":
            await place.list_models()
            await asyncio.sleep(0.1)
    yield place
    await place.close()


async def answered(place: OpenAIPlace, prompt: Any, **options: Any) -> list[Any]:
    options = {"max_tokens": 8, "sampling": GREEDY, "ignore_eos": True} | options
    request = Request("r", place.status().models[0].id, "t", prompt, **options)
    async with aclosing(place.complete(request, Deadline.start(Budget(), time.monotonic()))) as events:
        return [event async for event in events]


@pytest.mark.parametrize("prompt", [CHAT, Text("One two three"), TokenIds((785, 6722))])
async def test_it_answers_with_its_own_counts_and_times(place: OpenAIPlace, prompt: Any) -> None:
    first, *deltas = await answered(place, prompt)
    assert isinstance(first, Prompted) and deltas[-1].finish_reason == "length"
    assert deltas[-1].usage.num_answer == 8 and deltas[-1].usage.num_prompt > 1
    assert deltas[-1].timing.prefill_s > 0 and deltas[-1].timing.decode_s > 0


async def test_scores_come_with_the_words(place: OpenAIPlace) -> None:
    _, *deltas = await answered(place, CHAT, num_top=2)
    scored = [token for delta in deltas for token in delta.scored]
    assert len(scored) == 8 and all(len(token.top) == 2 and token.logprob <= 0 for token in scored)


async def test_what_was_begun_elsewhere_is_not_said_twice(place: OpenAIPlace) -> None:
    begun = "The two rivers"
    _, *deltas = await answered(place, CHAT, partial=Partial(begun), max_tokens=12)
    text = "".join(delta.text for delta in deltas)
    assert text and not text.startswith(begun[:4]) and deltas[-1].usage.num_answer == 12 - len(begun) // 4


async def test_its_refusals_have_types(place: OpenAIPlace) -> None:
    with pytest.raises(ContextTooLong):
        await answered(place, Text("a " * 5_000))
    with pytest.raises(BadRequest):
        await answered(place, Chat((Message("nobody", ""),), tools=()), stop_token_ids=(1,))


async def test_hanging_up_frees_its_slot(place: OpenAIPlace) -> None:
    request = Request("r", place.status().models[0].id, "t", CHAT, max_tokens=1_500, sampling=GREEDY, ignore_eos=True)
    answer = place.complete(request, Deadline.start(Budget(), time.monotonic()))
    async for event in answer:
        if isinstance(event, Delta):
            break
    await answer.aclose()
    async with asyncio.timeout(30):
        await place.read_load()
        while place._load is None or place._load.num_running:
            await asyncio.sleep(0.05)
            await place.read_load()
