"""The machine that turns deltas into items and events, fed with any deltas."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from openai._models import construct_type
from openai._types import omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import ResponseStreamEvent

from isochrone.errors import Overloaded, Unreachable
from isochrone.gateway.openai_responses import EventWriter
from isochrone.gateway.openai_responses_draft import Draft
from isochrone.gateway.openai_responses_tools import Offered
from isochrone.places.place import Delta, Prompted, ToolDelta

HEAD: dict[str, Any] = {
    "id": "resp_" + "a" * 32, "object": "response", "created_at": 1, "model": "m", "background": False, "store": True,
    "tools": [], "tool_choice": "auto", "parallel_tool_calls": True,
}  # fmt: skip
OFFERED = {"f": Offered("f"), "c": Offered("c", is_custom=True), "n__f": Offered("f", "n")}
TEXT = st.text(max_size=5)


@st.composite
def answers(draw: st.DrawFn) -> list[Delta]:
    """What a place may say: thoughts, text and calls in any order, each call whole before the next."""
    deltas: list[Delta] = []
    num_calls = 0
    for kind in draw(st.lists(st.sampled_from(["thought", "text", "call", "nothing"]), max_size=6)):
        parts = draw(st.lists(TEXT, min_size=1, max_size=3))
        if kind == "thought":
            deltas += [Delta(0, "", 1, reasoning=part, num_reasoning=1) for part in parts]
        elif kind == "text":
            deltas += [Delta(0, part, 1) for part in parts]
        elif kind == "call":
            name = draw(st.sampled_from([*OFFERED, "unknown"]))
            deltas.append(Delta(0, "", 1, tool_calls=(ToolDelta(num_calls, f"call_{num_calls}", name, ""),)))
            deltas += [Delta(0, "", 1, tool_calls=(ToolDelta(num_calls, arguments=part),)) for part in parts]
            num_calls += 1
        else:
            deltas.append(Delta(0, "", 1))
    reason = draw(st.sampled_from(["stop", "length", "tool_calls"]))
    return [*deltas, Delta(0, draw(TEXT), 0, finish_reason=reason, num_cached=3)]


def wire(draft: Draft, deltas: list[Delta], *, padded: bool = False) -> list[dict[str, Any]]:
    """Everything that a caller reads."""
    writer = EventWriter(padded=padded)
    parts = [writer.write(draft.push(event)) for event in [Prompted(9), *deltas]]
    parts.append(writer.write([*draft.end(2.0), *draft.last()]))
    blocks = [block.split("\n") for block in b"".join(parts).decode().split("\n\n") if block]
    events = [json.loads(data.removeprefix("data: ")) for _, data in blocks]
    assert [kind for kind, _ in blocks] == [f"event: {event['type']}" for event in events]
    return events


@settings(max_examples=300)
@given(answers(), st.booleans())
def test_events_retell_the_response(deltas: list[Delta], padded: bool) -> None:
    draft = Draft(dict(HEAD), OFFERED)
    events = wire(draft, deltas, padded=padded)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    final = events[-1]["response"]
    assert final == draft.body() and final["status"] in ("completed", "incomplete")
    texts: dict[str, str] = {}
    for event in events:
        if event["type"].endswith(".delta"):
            texts[event["item_id"]] = texts.get(event["item_id"], "") + event["delta"]
    for index, item in enumerate(final["output"]):
        mine = [event for event in events if event.get("output_index") == index]
        assert (mine[0]["type"], mine[-1]["type"]) == ("response.output_item.added", "response.output_item.done")
        assert mine[-1]["item"] == item and mine[0]["item"]["id"] == item["id"]
        whole = item.get("arguments", item.get("input"))
        assert texts.get(item["id"], "") == (item["content"][0]["text"] if whole is None else whole)
    assert final["output"] and final["usage"]["total_tokens"] == 9 + sum(delta.num_tokens for delta in deltas)


@given(answers())
def test_the_sdk_accumulates_the_same(deltas: list[Delta]) -> None:
    state: Any = ResponseStreamState(input_tools=omit, text_format=omit)
    for event in wire(Draft(dict(HEAD), OFFERED), deltas):
        state.handle_event(construct_type(type_=ResponseStreamEvent, value=event))


@given(answers(), st.integers(0, 20), st.sampled_from(["fail", "cancel"]))
def test_an_answer_can_end_anywhere(deltas: list[Delta], num_said: int, end: str) -> None:
    draft = Draft(dict(HEAD), OFFERED)
    said = [Prompted(9), *deltas[:-1]][:num_said]
    events = [event for delta in said for event in draft.push(delta)]
    events += draft.fail(Unreachable("It died.", fix="Ask again.")) if end == "fail" else draft.cancel()
    events += draft.last()
    added = [body["output_index"] for kind, body in events if kind == "response.output_item.added"]
    done = [body["output_index"] for kind, body in events if kind == "response.output_item.done"]
    assert added == done == list(range(len(draft.output)))
    assert events[-1][1]["response"]["status"] == ("failed" if end == "fail" else "cancelled")
    assert draft.is_ended and (end == "fail" or events[0][0] == "response.created")


def test_a_custom_call_that_was_cut_gives_what_there_is() -> None:
    draft = Draft(dict(HEAD), OFFERED)
    draft.push(Prompted(1))
    draft.push(Delta(0, "", 1, tool_calls=(ToolDelta(0, "x", "c", '{"input": "ab'),)))
    draft.push(Delta(0, "", 0, finish_reason="length"))
    assert draft.output[0]["input"] == '{"input": "ab' and draft.output[0]["status"] == "incomplete"


def test_codes_of_failures_are_ones_that_clients_know() -> None:
    for error, code in (
        (Unreachable("x", fix="y"), "server_error"),
        (Overloaded("x", fix="y", retry_after_s=1), "server_error"),
    ):
        draft = Draft(dict(HEAD), {})
        draft.fail(error)
        assert draft.body()["error"]["code"] == code
