"""What two nodes say to each other arrives as it was sent, however the bytes are cut, or fails with a type."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone import errors
from isochrone.budget import Budget, Deadline
from isochrone.errors import BadRequest, IsochroneError, PlaceRefused, Throttled, Unreachable
from isochrone.gateway.faults import ModelNotFound, RateLimited, ScopeMissing, TooLarge
from isochrone.places.isochrone_wire import (
    Fault,
    Lines,
    decode_asked,
    decode_line,
    encode_asked,
    encode_event,
    encode_fault,
    error_of,
    fault_of,
)
from isochrone.places.place import (
    Chat,
    Delta,
    Format,
    Message,
    Partial,
    Prompted,
    Receipt,
    Request,
    Sampling,
    Scored,
    Text,
    Timing,
    TokenIds,
    Tool,
    ToolCall,
    ToolChoice,
    ToolDelta,
    Usage,
)

CHAT = Chat(
    (
        Message("user", "Köln?"),
        Message("assistant", "", tool_calls=(ToolCall("c", "f", '{"a": 1}'),), reasoning="hm"),
        Message("tool", "rain", tool_call_id="c"),
    ),
    tools=(Tool("f", "d", {"type": "object"}, strict=True),), tool_choice=ToolChoice("required", "f"),
    parallel_tool_calls=False, template_variables={"enable_thinking": False},
)  # fmt: skip
REQUESTS = [
    Request("r", "m", "t", CHAT, 9, 1, Sampling(0.5, 3, 0.9, seed=2**63 - 1, logit_bias={7: -1.5}), ("\n", "日本")),
    Request("r", "m", "t", Text("x", False), num_top=3, format=Format("lark", "start: /a/"), with_ids=True, run="u"),
    Request("r", "m", "t", TokenIds((1, 2)), n=2, partial=Partial("a", "b", (3, 4)), dated=True, pin_s=4.0),
]
SCORED = Scored("\ufffd", b"\xf0\x9f", -1.0, (("é", "é".encode(), -2.0),))
EVENTS = [
    Prompted(4, "the prompt", (Scored("a", b"a", None), SCORED)),
    Delta(1, "日本", 2, reasoning="x", tool_calls=(ToolDelta(0, "c", "f"), ToolDelta(0, arguments='{"')), ids=(5, 6)),
    Delta(
        0, "", 0, finish_reason="stop", num_cached=3, ended_by="deadline", stopped_by="\n",
        timing=Timing(1.0, 2.0, 3.0),
        receipt=Receipt("h", "p", 1, 0, Sampling(), (1,), (2,)), usage=Usage(1, 2, 3),
    ),
]  # fmt: skip


@pytest.mark.parametrize("request_", REQUESTS)
def test_a_request_arrives_as_it_was_sent(request_: Request) -> None:
    assert decode_asked(encode_asked(request_, Deadline.start(Budget(), 0.0), 0.0)).request == request_


@given(
    st.one_of(st.none(), st.floats(0.01, 100)), st.floats(0.01, 1000), st.floats(0, 200), st.floats(0, 1e6),
    st.booleans(),
)  # fmt: skip
def test_between_machines_travels_only_what_remains(
    ttft_s: float | None, total_s: float, later_s: float, there: float, strict: bool
) -> None:
    budget = Budget(ttft_s, 0.1, total_s, 0.002, 0.6, "region:eu")
    deadline = Deadline.start(budget, 50.0, strict=strict)
    left = decode_asked(encode_asked(REQUESTS[0], deadline, 50.0 + later_s)).left
    got = Deadline.start(left.budget(is_dated=True), there, strict=left.strict)
    assert got.total_at - there == pytest.approx(max(0.0, total_s - later_s), abs=1e-6)
    assert (got.ttft_at is None) == (ttft_s is None)
    if got.ttft_at is not None and ttft_s is not None:
        assert got.ttft_at - there == pytest.approx(max(0.0, ttft_s - later_s), abs=1e-6)
    assert (got.itl_s, got.cost_usd, got.quality, got.scope) == (0.1, 0.002, 0.6, "region:eu") and got.strict == strict


@given(st.lists(st.integers(1, 40), max_size=60))
def test_however_an_answer_is_cut_into_reads_its_events_are_the_same(sizes: list[int]) -> None:
    data, lines, out = b"\n" + b"".join(map(encode_event, EVENTS)), Lines(), []
    for size in [*sizes, len(data)]:
        out += [decode_line(line) for line in lines.push(data[:size])]
        data = data[size:]
    assert out == EVENTS


KINDS = [
    kind for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, IsochroneError) and kind not in (IsochroneError, errors.NotAllowed)
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_arrives_with_its_type_and_its_way_out(kind: type[IsochroneError]) -> None:
    more = {"retry_after_s": 2.5} if issubclass(kind, errors.Overloaded) else {}
    error = kind("It failed.", fix="Do this.", **more)
    if isinstance(error, BadRequest):
        error.param = "prompt"
    line = decode_line(encode_fault(error).strip())
    assert isinstance(line, Fault)
    got = error_of(line)
    assert type(got) is kind and (got.message, got.fix) == ("It failed.", "Do this.")
    for name in ("retry_after_s", "param"):
        assert getattr(got, name, None) == getattr(error, name, None)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.NotAllowed("m", fix="f"), PlaceRefused),
        (ScopeMissing("m", fix="f"), PlaceRefused),
        (ModelNotFound("m", fix="f"), errors.NotFound),
        (RateLimited("m", fix="f", retry_after_s=3.0), Throttled),
        (TooLarge("m", fix="f"), BadRequest),
        (IsochroneError("m", fix="f"), Unreachable),
    ],
)
def test_an_error_that_only_the_other_gateway_knows_becomes_what_its_status_says(
    error: IsochroneError, kind: type[IsochroneError]
) -> None:
    got = error_of(fault_of(error))
    assert type(got) is kind and getattr(got, "retry_after_s", 3.0) == 3.0


@pytest.mark.parametrize("line", [b"", b"{}", b"[]", b'{"delta": {"index": "x"}}', b"\xff", b"<html>"])
def test_what_is_no_line_of_ours_is_said_to_be_none(line: bytes) -> None:
    with pytest.raises(Unreachable, match="do not understand"):
        decode_line(line)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"request": 1}', b'{"left": {"total_s": -1}}', b"[" * 10_000])
def test_what_is_no_request_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest, match="no request between nodes"):
        decode_asked(body)
