"""One gateway asks another: the answer, its end, its errors and its cancellation arrive as if the place were here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from isochrone.budget import Budget, Deadline
from isochrone.errors import (
    BadConfig,
    BadRequest,
    CannotMeet,
    DeadlineExceeded,
    NotFound,
    Overloaded,
    PlaceRefused,
    SequenceFailed,
    Unreachable,
)
from isochrone.gateway.serve import Serving
from isochrone.places.isochrone_place import RemoteIsochrone, from_spec
from isochrone.places.place import Chat, Delta, Message, Partial, Price, Prompted, Request, Text, TokenIds, Tool
from isochrone.places.spec import ModelSpec, PlaceSpec
from tests.gateway.conftest import MODEL, TEST_LIMITS, Server, start_server, stop_server
from tests.gateway.playing import DONE, PlayingPlace, called, thought, words


@pytest.fixture
async def node(server: Server) -> AsyncIterator[RemoteIsochrone]:
    async with aclosing_place(RemoteIsochrone("edge", server.url)) as place:
        yield place


@pytest.fixture
async def playing(playing_server: Server, played: PlayingPlace) -> AsyncIterator[RemoteIsochrone]:
    async with aclosing_place(RemoteIsochrone("edge", playing_server.url)) as place:
        yield place


class aclosing_place:
    def __init__(self, place: RemoteIsochrone) -> None:
        self._place = place

    async def __aenter__(self) -> RemoteIsochrone:
        return self._place

    async def __aexit__(self, *error: object) -> None:
        await self._place.close()


def ask(prompt: Any = Text("The quick brown fox"), **options: Any) -> Request:
    return Request("r", MODEL, "somebody", prompt, **options)


def within(seconds: float | None = None) -> Deadline:
    return Deadline.start(Budget(total_s=seconds), time.monotonic())


async def answered(place: Any, request: Request, deadline: Deadline | None = None) -> list[Prompted | Delta]:
    async with aclosing(place.complete(request, deadline or within())) as events:
        return [event async for event in events]


@pytest.mark.parametrize(
    "request_", [ask(max_tokens=5, n=2, with_ids=True, num_top=1), ask(TokenIds((40, 41)), max_tokens=3, echo=True)]
)
async def test_the_node_says_what_the_place_behind_it_says(
    server: Server, node: RemoteIsochrone, request_: Request
) -> None:
    there = asyncio.run_coroutine_threadsafe(answered(server.place, request_), server.loop).result(10)
    assert await answered(node, request_) == there
    assert isinstance(there[0], Prompted) and sum(event.num_tokens for event in there[1:]) > 2


async def test_thoughts_calls_and_ends_arrive(playing: RemoteIsochrone, played: PlayingPlace) -> None:
    play = [*thought("hm hm"), *called(0, "f", '{"a": 1}'), *DONE]
    played.plays = [play]
    request = ask(Chat((Message("user", "x"),), tools=(Tool("f"),)), partial=Partial("", "", (1, 2)), run="run-1")
    assert await answered(playing, request) == [Prompted(7), *play]
    (got,) = played.requests
    assert (got.prompt, got.partial, got.run) == (request.prompt, request.partial, "run-1")
    assert got.tenant == "local/somebody"


async def test_a_model_is_asked_for_under_the_name_that_it_has_there(
    playing_server: Server, played: PlayingPlace
) -> None:
    price = Price(1.0, 2.0)
    node = RemoteIsochrone("edge", playing_server.url, models=(ModelSpec("small", MODEL, price, 0.4, 99, ("tools",)),))
    async with aclosing_place(node):
        await node.start()
        (model,) = node.status().models
        assert (model.id, model.price, model.quality, model.context, model.abilities, model.owner) == (
            "small", price, 0.4, 99, ("tools",), "isochrone",
        )  # fmt: skip
        await answered(node, Request("r", "small", "t", Text("x")))
        assert played.requests[0].model == MODEL


@pytest.mark.parametrize("options", [{"max_tokens": -1}, {"num_top": -40}, {"n": 0}, {"num_top": 1 << 20}])
async def test_numbers_that_would_make_a_request_cost_less_than_nothing_are_refused(
    node: RemoteIsochrone, options: dict[str, int]
) -> None:
    with pytest.raises(BadRequest):
        await answered(node, ask(**options))


async def test_hanging_up_gives_the_slot_back_there(server: Server, node: RemoteIsochrone) -> None:
    events = node.complete(ask(max_tokens=400), within())
    async for event in events:
        if isinstance(event, Delta):
            break
    assert server.engine.num_open == 1
    await events.aclose()
    await asyncio.to_thread(server.wait_until, lambda: server.engine.num_open == 0)


async def test_hanging_up_before_the_first_token_gives_the_slot_back_too(server: Server, node: RemoteIsochrone) -> None:
    server.call(server.engine.gate.clear)
    waiting = asyncio.ensure_future(answered(node, ask(max_tokens=4)))
    await asyncio.to_thread(server.wait_until, lambda: server.engine.num_open == 1)
    waiting.cancel()
    await asyncio.to_thread(server.wait_until, lambda: server.engine.num_open == 0)


@pytest.mark.parametrize(
    "error",
    [
        CannotMeet("Too slow.", fix="Wait.", retry_after_s=2.5, predicted_s=9.0),
        Overloaded("Full.", fix="Wait.", retry_after_s=3.5),
        BadRequest("Wrong.", fix="Correct it.", param="prompt"),
    ],
)
async def test_a_refusal_arrives_with_its_type(playing: RemoteIsochrone, played: PlayingPlace, error: Any) -> None:
    played.plays = [[error]]
    with pytest.raises(type(error)) as caught:
        await answered(playing, ask())
    for name in ("message", "fix", "retry_after_s", "predicted_s", "param"):
        assert getattr(caught.value, name, None) == getattr(error, name, None)


async def test_an_error_in_the_middle_arrives_after_what_was_said(
    playing: RemoteIsochrone, played: PlayingPlace
) -> None:
    played.plays = [[Delta(0, "a", 1), SequenceFailed("Not finite.", fix="Ask again.")]]
    got: list[Any] = []
    with pytest.raises(SequenceFailed, match="Not finite"):
        async with aclosing(playing.complete(ask(), within())) as events:
            async for event in events:
                got.append(event)
    assert got == [Prompted(7), Delta(0, "a", 1)]


async def test_the_connection_is_used_again_after_answers_and_after_refusals(
    playing: RemoteIsochrone, played: PlayingPlace
) -> None:
    played.plays = [words("a b"), [BadRequest("Wrong.", fix="Correct it.")], words("c")]
    await answered(playing, ask())
    first = playing.connect_took_s
    with pytest.raises(BadRequest):
        await answered(playing, ask())
    await answered(playing, ask())
    assert first is not None and playing.connect_took_s == first


async def test_what_the_node_does_not_serve_is_said(node: RemoteIsochrone) -> None:
    with pytest.raises(NotFound, match="nobody"):
        await answered(node, Request("r", "nobody", "t", Text("x")))
    with pytest.raises(BadRequest, match="n is 101"):
        await answered(node, ask(n=101))


async def test_only_a_stated_deadline_ends_the_wait(server: Server, node: RemoteIsochrone) -> None:
    server.call(server.engine.gate.clear)
    with pytest.raises(DeadlineExceeded):
        await answered(node, ask(dated=True), within(0.05))
    with pytest.raises(DeadlineExceeded, match="before the node was asked"):
        await answered(node, ask(dated=True), within(0.0))
    server.call(server.engine.gate.set)
    assert len(await answered(node, ask(max_tokens=2), within(0.0))) == 3
    assert server.engine.submitted[-1].total_at is None


async def test_a_node_that_is_not_there_is_unreachable_and_says_so() -> None:
    async with aclosing_place(RemoteIsochrone("edge", "http://127.0.0.1:9")) as node:
        assert node.status().state == "loading"
        with pytest.raises(Unreachable, match="edge does not answer"):
            await answered(node, ask())
        await node.start()
        assert node.status().state == "failed" and "edge does not answer" in node.status().why


async def test_a_stream_that_is_cut_is_unreachable(playing_server: Server, played: PlayingPlace) -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ncontent-length: 999\r\n\r\n")
        writer.write(b'{"prompted":{"num_tokens":3}}\n{"delta":{"index":0,"text":"a","num_tok')
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(cut, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    got: list[Any] = []
    async with server, aclosing_place(RemoteIsochrone("edge", f"http://{host}:{port}")) as node:
        with pytest.raises(Unreachable, match="broke off"):
            async with aclosing(node.complete(ask(), within())) as events:
                async for event in events:
                    got.append(event)
    assert got == [Prompted(3)]


async def test_another_server_at_that_address_is_told_apart() -> None:
    async def page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 6\r\nconnection: close\r\n\r\n<html>")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(page, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    async with server, aclosing_place(RemoteIsochrone("edge", f"http://{host}:{port}")) as node:
        with pytest.raises(NotFound, match="answered 404"):
            await answered(node, ask())


@pytest.fixture
def guarded(tokenizer_directory: Path) -> Iterator[Server]:
    server = start_server(
        tokenizer_directory, Serving(port=0, api_key="secret", limits=TEST_LIMITS, log_level="critical")
    )
    yield server
    stop_server(server)


async def test_a_node_asks_for_its_key(guarded: Server) -> None:
    async with aclosing_place(RemoteIsochrone("edge", guarded.url, key="wrong")) as stranger:
        with pytest.raises(PlaceRefused):
            await answered(stranger, ask(max_tokens=1))
        await stranger.poll()
        assert stranger.status().state == "failed"
    async with aclosing_place(RemoteIsochrone("edge", guarded.url, key="secret")) as friend:
        await friend.start()
        assert friend.status().state == "ready" and len(await answered(friend, ask(max_tokens=1))) == 2
        tenant = guarded.engine.submitted[-1].tenant
        assert tenant.endswith("/somebody") and not tenant.startswith("local")


async def test_status_tells_load_and_models_and_a_drain(server: Server, node: RemoteIsochrone) -> None:
    await node.start()
    status = node.status()
    assert status.state == "ready" and status.load.num_blocks_free == 90
    assert [(model.id, model.context) for model in status.models] == [(MODEL, 512)]
    assert status.models[0].details.template == ""


async def test_a_node_that_drains_is_sent_nothing_new(server: Server, node: RemoteIsochrone) -> None:
    await node.start()
    ready = node.status()
    node._node = msgspec.structs.replace(node._node, is_draining=True)
    assert node.status().state == "restarting" and node.status().models == ready.models


async def test_tokens_are_counted_there(server: Server, node: RemoteIsochrone) -> None:
    ids = await node.tokenize(Text("The quick brown"))
    assert await node.detokenize(ids) == "The quick brown"
    chat = Chat((Message("user", "dog"),))
    there = asyncio.run_coroutine_threadsafe(server.place.tokenize(chat), server.loop).result(10)
    assert await node.tokenize(chat) == there
    with pytest.raises(BadRequest, match="tools"):
        await node.tokenize(Chat((Message("user", "dog"),), tools=(Tool("f"),)))


def test_a_node_is_built_from_what_the_fleet_file_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_KEY", "k")
    url = "http://127.0.0.1:9"
    place = from_spec(PlaceSpec("edge", "isochrone", url, "EDGE_KEY", "eu-west-1", options={"poll_s": 3}))
    assert (place.name, place.location, place.continues, place.price) == ("edge", "eu-west-1", "exactly", Price())
    for options, wrong in (({"pol_s": 3}, url), ({"poll_s": "3"}, url), ({}, "127.0.0.1")):
        with pytest.raises(BadConfig):
            from_spec(PlaceSpec("edge", "isochrone", wrong, options=options))
    with pytest.raises(BadConfig, match="ability"):
        RemoteIsochrone("edge", "http://127.0.0.1:9", models=(ModelSpec("m", "m", abilities=("sing",)),))
