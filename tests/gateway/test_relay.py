"""One relayed attempt over real sockets: bytes unchanged, warm connections, typed errors, hang-ups passed on."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

import pytest

from isochrone.errors import BadRequest, DeadlineExceeded, IsochroneError, PlaceRefused, Throttled, Unreachable
from isochrone.gateway.relay import Door, relay
from isochrone.gateway.relay_body import read_body
from isochrone.gateway.relay_frames import Piece
from isochrone.gateway.spending import num_prompt_tokens_max
from tests.gateway.upstreams import DONE, HEAD, ROLE, USAGE, Upstream, chunk, refused, running, streamed, words

BODY = b'{"model": "ours", "messages": [{"role":"user","content":"hi \\u00fc"}], "stream": true, "x_extra": [1,  2]}'


async def pieces_of(
    upstream: Upstream, raw: bytes = BODY, *, door: Door | None = None, within_s: float = 10.0
) -> list[Piece]:
    own = door or Door("up", f"http://127.0.0.1:{upstream.port}/v1", [(b"authorization", b"Bearer k")])
    stream = relay(own, "theirs", read_body(raw), time.monotonic() + within_s)
    try:
        async with aclosing(stream) as pieces:
            return [piece async for piece in pieces]
    finally:
        if door is None:
            own.close()


async def test_a_stream_comes_through_byte_for_byte_with_its_ending_told_apart() -> None:
    async with running(streamed(words("Hello", " there"))) as upstream:
        pieces = await pieces_of(upstream)
    data = b"".join(piece.data for piece in pieces)
    assert data == ROLE + chunk({"content": "Hello"}) + chunk({"content": " there"}) + chunk({}, "stop")
    ending = pieces[-1].ending
    assert ending is not None and ending.usage is not None and ending.finish_reason == "stop"
    assert (ending.usage.num_prompt, ending.usage.num_answer) == (7, 2)
    assert ending.usage_frame + b"\n\n" == USAGE


async def test_a_body_goes_on_as_it_was_sent_but_for_the_model_and_the_wish_for_a_usage() -> None:
    raw = BODY[:-1] + b', "budget": "chat", "temperature": 1e-1}'
    async with running(streamed(words("x"))) as upstream:
        await pieces_of(upstream, raw)
    sent = upstream.bodies[0]
    assert json.loads(sent) == {
        "model": "theirs", "messages": [{"role": "user", "content": "hi ü"}], "stream": True, "x_extra": [1, 2],
        "temperature": 0.1, "stream_options": {"include_usage": True},
    }  # fmt: skip
    for kept in (b'[{"role":"user","content":"hi \\u00fc"}]', b"[1,  2]", b"1e-1"):
        assert kept in sent
    assert b"authorization: Bearer k" in upstream.heads[0]


async def test_a_connection_serves_the_next_request_too() -> None:
    async with running(streamed(words("x"))) as upstream:
        door = Door("up", f"http://127.0.0.1:{upstream.port}/v1", [])
        for _ in range(3):
            await pieces_of(upstream, door=door)
            async with asyncio.timeout(5):
                while not door.pool.num_idle:
                    await asyncio.sleep(0)
        door.close()
    assert len(upstream.bodies) == 3 and upstream.num_connections == 1


async def test_a_resting_connection_that_was_closed_costs_no_error() -> None:
    async def once(body: dict[str, Any], write: Callable[[bytes], Awaitable[None]]) -> None:
        await streamed(words("x"))(body, write)
        raise ConnectionResetError

    async with running(once) as upstream:
        door = Door("up", f"http://127.0.0.1:{upstream.port}/v1", [])
        for _ in range(3):
            assert (await pieces_of(upstream, door=door))[-1].ending
        door.close()


@pytest.mark.parametrize(
    ("play", "kind"),
    [
        (refused(429, "slow down", "retry-after: 7\r\n"), Throttled),
        (refused(401, "no"), PlaceRefused),
        (refused(400, "bad field"), BadRequest),
        (refused(500, "oops"), Unreachable),
        (streamed([ROLE], cut=True), Unreachable),
        (streamed([ROLE, b'data: {"error": {"message": "overloaded", "code": 500}}\n\n']), Unreachable),
        (streamed([ROLE, b"data: nonsense\n\n"]), Unreachable),
    ],
)
async def test_what_goes_wrong_before_the_first_word_is_raised_before_anything_is_said(
    play: Callable[..., Awaitable[None]], kind: type[IsochroneError]
) -> None:
    async with running(play) as upstream:
        with pytest.raises(kind) as caught:
            await pieces_of(upstream)
    if isinstance(caught.value, Throttled):
        assert caught.value.retry_after_s == 7


@pytest.mark.parametrize("is_cut", [True, False])
async def test_a_stream_that_breaks_off_gives_its_words_and_then_says_so(is_cut: bool) -> None:
    async with running(streamed([ROLE, chunk({"content": "Hel"})], cut=is_cut)) as upstream:
        door = Door("up", f"http://127.0.0.1:{upstream.port}/v1", [])
        got = []
        with pytest.raises(Unreachable):
            async with aclosing(relay(door, "m", read_body(BODY), time.monotonic() + 10)) as pieces:
                async for piece in pieces:
                    got.append(piece.data)
        door.close()
    assert b"".join(got) == ROLE + chunk({"content": "Hel"})


async def test_the_caller_leaving_hangs_up_on_the_place() -> None:
    async def endless(body: dict[str, Any], write: Callable[[bytes], Awaitable[None]]) -> None:
        await write(HEAD)
        while True:
            frame = chunk({"content": "word"})
            await write(b"%x\r\n%b\r\n" % (len(frame), frame))
            await asyncio.sleep(0)

    async with running(endless) as upstream:
        door = Door("up", f"http://127.0.0.1:{upstream.port}/v1", [])
        stream = relay(door, "m", read_body(BODY), time.monotonic() + 10)
        assert (await anext(stream)).commits
        await stream.aclose()
        async with asyncio.timeout(5):
            await upstream.hung_up.wait()
        assert door.pool.num_idle == 0
        door.close()


async def test_the_last_mark_ends_the_answer_though_the_place_keeps_the_message_open() -> None:
    release = asyncio.Event()

    async def lingering(body: dict[str, Any], write: Callable[[bytes], Awaitable[None]]) -> None:
        await write(HEAD)
        for frame in (chunk({"content": "x"}, "stop"), DONE):
            await write(b"%x\r\n%b\r\n" % (len(frame), frame))
        await release.wait()
        await write(b"0\r\n\r\n")

    async with running(lingering) as upstream:
        door = Door("up", f"http://127.0.0.1:{upstream.port}/v1", [])
        assert (await pieces_of(upstream, door=door))[-1].ending
        release.set()
        async with asyncio.timeout(5):
            while not door.pool.num_idle:
                await asyncio.sleep(0)
        door.close()


async def test_a_place_that_says_nothing_is_given_up_when_the_time_is_over() -> None:
    async def silent(body: dict[str, Any], write: Callable[[bytes], Awaitable[None]]) -> None:
        await asyncio.Event().wait()

    async with running(silent) as upstream:
        with pytest.raises(DeadlineExceeded):
            await pieces_of(upstream, within_s=0.05)


async def test_a_whole_answer_is_one_piece() -> None:
    counts = b'{"prompt_tokens":3,"completion_tokens":1}'
    text = b'{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}],"usage":%b}' % counts

    async def whole(body: dict[str, Any], write: Callable[[bytes], Awaitable[None]]) -> None:
        await write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(text) + text)

    async with running(whole) as upstream:
        (piece,) = await pieces_of(upstream, BODY.replace(b"true", b"false"))
    assert piece.data == text and piece.ending is not None
    assert piece.ending.usage is not None and piece.ending.usage.num_answer == 1


async def test_nobody_listening_is_said_with_the_address() -> None:
    async with running(streamed([])) as upstream:
        port = upstream.port
    door = Door("up", f"http://127.0.0.1:{port}/v1", [])
    with pytest.raises(Unreachable, match=str(port)):
        async with aclosing(relay(door, "m", read_body(BODY), time.monotonic() + 5)) as pieces:
            await anext(pieces)


@pytest.mark.parametrize("raw", [b"{", b"[]", b'{"model": 3, "messages": []}', b'{"model": "m"}', b"\xff"])
def test_a_body_that_is_none_is_a_bad_request(raw: bytes) -> None:
    with pytest.raises(BadRequest):
        read_body(raw)


async def test_an_answer_that_lost_only_its_last_mark_is_whole_and_nobody_goes_on_with_it() -> None:
    frames = [ROLE, chunk({"content": "x"}), chunk({}, "stop")]
    async with running(streamed(frames, cut=True)) as upstream:
        pieces = await pieces_of(upstream)
    assert b"".join(piece.data for piece in pieces) == b"".join(frames)
    assert pieces[-1].ending is not None and pieces[-1].ending.finish_reason == "stop"


async def test_without_a_stated_time_nothing_ends_a_stream_but_its_place() -> None:
    async with running(streamed(words("x"))) as upstream:
        door = Door("up", f"http://127.0.0.1:{upstream.port}/v1", [])
        async with aclosing(relay(door, "m", read_body(BODY), None)) as pieces:
            assert [piece async for piece in pieces][-1].ending
        door.close()


def test_what_a_request_weighs_has_the_calls_of_earlier_turns() -> None:
    call = b'{"id":"c","type":"function","function":{"name":"f","arguments":"%s"}}' % (b"x" * 4000)
    turn = b'{"role":"assistant","content":null,"tool_calls":[%s]}' % call
    raw = b'{"model":"m","messages":[{"role":"user","content":"hi"},%s]}' % turn
    assert num_prompt_tokens_max(read_body(raw).request("r", "t", dated=False).prompt) > 2000
