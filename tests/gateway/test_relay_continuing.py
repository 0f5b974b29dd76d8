"""Chats in bytes that break off: gone on with by tokens where we said them, by text where they were relayed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
import pytest

from isochrone.budget import Budget, Deadline
from isochrone.errors import BrokenOff, IsochroneError, Unreachable
from isochrone.gateway import relay_exchange
from isochrone.gateway.relay_body import read_body
from isochrone.gateway.relay_exchange import RelayExchange
from isochrone.gateway.relay_frames import Piece
from isochrone.places.route import Route
from isochrone.routing.execute import Execution, Settings
from isochrone.testing.places import ScriptedPlace, Turn
from isochrone.testing.virtual_loop import now, run
from tests.routing.guiding import WORDS, FixedGuide, request

BODY = read_body(
    msgspec.json.encode({"model": "m", "stream": True, "messages": [{"role": "user", "content": "Count."}]})
)
TEXT = "".join(WORDS)


class Relayed:
    """Fulfils `Doors` for these places.  Each relays three words and is cut."""

    def __init__(self, *names: str) -> None:
        self._names = names

    def door(self, place: Any, model: str) -> Any:
        return (place, model) if place.name in self._names else None


async def three_words(place: Any, *_: object) -> AsyncGenerator[Piece, None]:
    for word in WORDS[:3]:
        await asyncio.sleep(0.1)
        chunk = {"choices": [{"index": 0, "delta": {"content": word}}]}
        yield Piece(b"data: %s\n\n" % msgspec.json.encode(chunk), 1, True)
    raise Unreachable(f"{place.name} hung up.", fix="Ask again.")


async def answer(*places: ScriptedPlace, doors: Relayed) -> tuple[str, RelayExchange, IsochroneError | None]:
    """(the text that the caller reads, the exchange, the error that ended it)"""
    by_name = {place.name: place for place in places}
    deadline = Deadline.start(Budget(), now())
    exchange = RelayExchange(
        BODY, request, doors, lambda target: (by_name[target[0]], by_name[target[0]].models[0]),
        lambda sent: Route(*sent.target), seed=7, is_dated=False,
    )  # fmt: skip
    execution = Execution(
        exchange, deadline, FixedGuide(places, deadline), Settings(), now, is_dated=False, strays=set()
    )
    data, error = b"", None
    try:
        async for piece in execution.run():
            data += piece.data
    except IsochroneError as raised:
        error = raised
    assert all(place.num_open == 0 for place in places)
    return read(data), exchange, error


def read(data: bytes) -> str:
    frames = [frame.removeprefix(b"data: ") for frame in data.split(b"\n\n") if frame.startswith(b"data: {")]
    deltas = [msgspec.json.decode(frame)["choices"][0]["delta"] for frame in frames]
    assert sum("role" in delta for delta in deltas) <= 1
    return "".join(delta.get("content") or "" for delta in deltas)


@pytest.fixture(autouse=True)
def _cut_relays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_exchange, "relay", three_words)


def test_our_own_nodes_go_on_by_tokens_and_the_usage_is_of_the_whole_answer() -> None:
    second = ScriptedPlace("b", WORDS, same_as="x")
    first = ScriptedPlace("a", WORDS, [Turn(die_after=3, hold_every=3)], same_as="x")
    text, exchange, error = run(answer(first, second, doors=Relayed()))
    partial = second.requests[0].partial
    assert (text, error) == (TEXT, None)
    assert partial is not None and partial.ids == (0, 1, 2) and partial.text == "One two"
    assert first.requests[0].sampling.seed == second.requests[0].sampling.seed == 7
    assert exchange.ending_seen is not None and exchange.ending_seen.usage is not None
    assert exchange.ending_seen.usage.num_answer == 6


def test_a_relayed_answer_is_gone_on_with_by_its_text() -> None:
    second = ScriptedPlace("b", WORDS, same_as="x")
    text, _, error = run(answer(ScriptedPlace("a", WORDS), second, doors=Relayed("a")))
    partial = second.requests[0].partial
    assert (text, error) == (TEXT, None)
    assert partial is not None and partial.ids == () and partial.text == "One two three" and partial.num_tokens == 3


def test_a_relayed_answer_that_is_gone_on_with_may_break_off_again() -> None:
    places = [ScriptedPlace("a", WORDS), ScriptedPlace("b", WORDS, [Turn(die_after=2)], same_as="x")]
    third = ScriptedPlace("c", WORDS, same_as="x")
    text, _, error = run(answer(*places, third, doors=Relayed("a")))
    assert (text, error) == (TEXT, None)
    assert third.requests[0].partial is not None and third.requests[0].partial.text == "One two three four five"


def test_an_answer_in_our_own_words_is_never_relayed_on() -> None:
    other = ScriptedPlace("b", WORDS)
    text, _, error = run(answer(ScriptedPlace("a", WORDS, [Turn(die_after=2)]), other, doors=Relayed("b")))
    assert (text, error) == (TEXT, None) and other.requests[0].partial is not None


def test_what_nobody_can_go_on_with_is_an_error_that_says_what_was_used() -> None:
    places = [ScriptedPlace("a", WORDS), ScriptedPlace("b", WORDS, abilities=())]
    text, _, error = run(answer(*places, doors=Relayed("a")))
    assert text == "One two three" and isinstance(error, BrokenOff) and error.num_answer == 3




@pytest.mark.parametrize("is_dated", [True, False])
def test_only_a_time_that_was_stated_ends_a_relayed_answer(is_dated: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not stated has an instant too, by which undated requests are ordered: a minute is no limit of theirs."""
    monkeypatch.setattr(relay_exchange, "relay", lambda door, model, body, total_at: total_at)
    place = ScriptedPlace("a", WORDS)
    exchange = RelayExchange(
        BODY, request, Relayed("a"), lambda target: (place, place.models[0]), lambda sent: Route(*sent.target), 7,
        is_dated=is_dated,
    )  # fmt: skip
    deadline = Deadline.start(Budget(total_s=9.0 if is_dated else None), 1.0)
    assert exchange.open(("a", "m"), deadline, resume=False) == (10.0 if is_dated else None)
