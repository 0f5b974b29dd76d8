"""Stored responses belong to the key that asked, and outlive the server that wrote them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

from isochrone.errors import ContextTooLong, Overloaded
from isochrone.gateway.limits import Limits
from isochrone.gateway.openai_responses_run import Runs
from isochrone.gateway.openai_responses_stored import TTL_S, Shelf
from isochrone.gateway.serve import Serving
from isochrone.ledger import Ledger
from isochrone.ledger.database import connect_or_say
from isochrone.ledger.keys import Key, add
from isochrone.places.place import Delta
from tests.gateway.conftest import Server, start_over, stop_server
from tests.gateway.playing import MODEL, PlayingPlace, words


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def keys(path: Path) -> list[str]:
    with closing(connect_or_say(path)) as connection:
        return [add(connection, Key(b"", name)) for name in ("ann", "bob")]


def start(path: Path) -> Server:
    def make() -> tuple[Any, Any]:
        place = PlayingPlace()
        return place, place

    return start_over(Serving(port=0, ledger_path=path, log_level="critical"), make)


@pytest.fixture
def server(path: Path, keys: list[str]) -> Iterator[Server]:
    server = start(path)
    yield server
    stop_server(server)


def client(server: Server, key: str) -> OpenAI:
    return OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)


def test_a_foreign_id_is_an_unknown_id_whatever_is_done_with_it(server: Server, keys: list[str]) -> None:
    ann, bob = (client(server, key) for key in keys)
    theirs = ann.responses.create(model=MODEL, input="secret")
    for ask in (bob.responses.retrieve, bob.responses.delete, bob.responses.cancel, bob.responses.input_items.list):
        with pytest.raises(openai.NotFoundError) as foreign:
            ask(theirs.id)
        with pytest.raises(openai.NotFoundError) as unknown:
            ask("resp_" + "0" * 32)
        assert foreign.value.message.replace(theirs.id, "") == unknown.value.message.replace("resp_" + "0" * 32, "")
    for body in ({"previous_response_id": theirs.id, "input": "x"},
                 {"input": [{"type": "item_reference", "id": theirs.output[0].id}]}):  # fmt: skip
        with pytest.raises(openai.BadRequestError, match="There is no"):
            bob.responses.create(model=MODEL, **body)  # type: ignore[call-overload]
    assert ann.responses.retrieve(theirs.id).output_text == "Hello there "


def test_a_running_response_is_nobody_elses_either(server: Server, keys: list[str]) -> None:
    ann, bob = (client(server, key) for key in keys)
    server.engine.plays = [[Delta(0, "One", 1), asyncio.Event()]]
    running = ann.responses.create(model=MODEL, input="x", background=True)
    for ask in (bob.responses.retrieve, bob.responses.delete, bob.responses.cancel):
        with pytest.raises(openai.NotFoundError):
            ask(running.id)
    assert ann.responses.cancel(running.id).status == "cancelled"


def test_a_conversation_goes_on_after_a_restart(path: Path, keys: list[str]) -> None:
    before = start(path)
    first = client(before, keys[0]).responses.create(model=MODEL, input="Hi")
    stop_server(before)
    after = start(path)
    try:
        ann = client(after, keys[0])
        assert ann.responses.retrieve(first.id).output_text == first.output_text
        ann.responses.create(model=MODEL, input="And?", previous_response_id=first.id)
        assert [m.content for m in after.engine.requests[-1].prompt.messages] == ["Hi", "Hello there ", "And?"]
    finally:
        stop_server(after)


async def test_a_response_whose_server_died_has_failed(path: Path, keys: list[str]) -> None:
    ledger = Ledger(path)
    ledger.open(time.monotonic())
    id = "resp_" + "1" * 32
    running = {"id": id, "status": "in_progress", "output": [], "previous_response_id": None, "error": None}
    owner = next(key.tenant for key in ledger.keys._keys.values() if key.name == "ann")
    await Shelf(ledger.responses, owner, Limits(), Runs()).put(running, [])
    ledger.close()
    server = await asyncio.to_thread(start, path)
    try:
        response = await asyncio.to_thread(client(server, keys[0]).responses.retrieve, id)
        assert response.status == "failed" and response.error is not None and "stopped" in response.error.message
    finally:
        await asyncio.to_thread(stop_server, server)


class Kept:
    """A ledger's door, written down."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, float]] = []
        self.bodies: dict[str, bytes] = {}

    async def put(self, owner: str, id: str, body: bytes, ttl_s: float) -> None:
        self.calls.append((owner, id, ttl_s))
        self.bodies[id] = body

    async def get(self, owner: str, id: str) -> bytes | None:
        return self.bodies.get(id)

    async def delete(self, owner: str, id: str) -> bool:
        return self.bodies.pop(id, None) is not None


async def test_a_response_is_kept_for_thirty_days_under_its_owner() -> None:
    kept = Kept()
    await Shelf(kept, "ann", Limits(), Runs()).put({"id": "resp_x"}, [])
    assert kept.calls == [("ann", "resp_x", TTL_S)] and TTL_S == 30 * 86_400


async def test_a_conversation_without_end_is_refused_before_it_fills_the_memory() -> None:
    kept = Kept()
    shelf = Shelf(kept, "ann", Limits(body_bytes=10_000), Runs())
    item = {"type": "message", "id": "msg_x", "role": "user", "content": "a" * 3_000}
    for number in range(20):
        before = f"resp_{number - 1}" if number else None
        await shelf.put(
            {"id": f"resp_{number}", "status": "completed", "output": [], "previous_response_id": before}, [item]
        )
    with pytest.raises(ContextTooLong, match="longer than this server takes"):
        await shelf.history("resp_19")
    assert len(await shelf.history("resp_3")) == 4


async def test_references_to_more_than_a_conversation_may_hold_are_refused_before_they_fill_the_memory() -> None:
    shelf = Shelf(Kept(), "ann", Limits(body_bytes=10_000), Runs())
    ids = [f"{number:032x}" for number in range(20)]
    for id in ids:
        item = {"type": "message", "id": f"msg_{id}_i0", "role": "user", "content": "a" * 3_000}
        await shelf.put({"id": f"resp_{id}", "status": "completed", "output": []}, [item])
    references = [{"type": "item_reference", "id": f"msg_{id}_i0"} for id in ids]
    with pytest.raises(ContextTooLong, match="What the input refers to is longer"):
        await shelf.resolve(references)
    assert [item["content"] for item in await shelf.resolve(references[:4] * 5)] == ["a" * 3_000] * 20


def test_what_cannot_be_kept_is_answered_and_says_so(server: Server, keys: list[str]) -> None:
    ledger = server.ledger.responses

    async def refuse(owner: str, id: str, body: bytes, ttl_s: float) -> None:
        raise Overloaded("The disk is full.", fix="Ask later.", retry_after_s=1)

    ledger.put = refuse  # type: ignore[method-assign]
    server.engine.plays = [words("Hello")]
    ann = client(server, keys[0])
    response = ann.responses.create(model=MODEL, input="x")
    assert response.output_text == "Hello "
    assert response.to_dict()["isochrone"] == {"not_stored": "The disk is full."} and not response.to_dict()["store"]
    with pytest.raises(openai.InternalServerError, match="The disk is full"):
        ann.responses.create(model=MODEL, input="x", background=True)
