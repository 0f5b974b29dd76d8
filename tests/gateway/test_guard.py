"""What a request can cost is reserved before anything is allocated for it, and what happened to it is kept."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.budget import Budget, Deadline
from isochrone.errors import BadRequest, Overloaded
from isochrone.gateway.cost import TOKEN_BYTES, cost_of, expect_within
from isochrone.gateway.guard import Guard
from isochrone.gateway.limits import Limits
from isochrone.gateway.rates import Rates
from isochrone.ledger import timelines_of
from isochrone.places.place import Chat, Format, Message, Receipt, Request, Text, TokenIds, Tool
from tests.fuzz.faces import EchoPlace
from tests.gateway.conftest import MODEL, Server

LIMITS = Limits(request_bytes=10_000, reserved_bytes=15_000, num_tools=2, tools_bytes=500, format_bytes=100)
DEADLINE = Deadline.start(Budget(), 0.0)


def request(**fields: object) -> Request:
    return Request(**({"id": "r", "model": "tiny", "tenant": "t", "prompt": Text("hi"), "max_tokens": 10} | fields))  # type: ignore[arg-type]


def chat(*tools: Tool) -> Chat:
    return Chat((Message("user", "hi"),), tools=tools)


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        (request(n=100), "n"),
        (request(max_tokens=400), "n"),
        (request(num_top=20, max_tokens=30), "n"),
        (request(max_tokens=None), "n"),
        (request(prompt=chat(*[Tool(f"f{at}") for at in range(3)])), "tools"),
        (request(prompt=chat(Tool("f", "d" * 600))), "tools"),
        (request(prompt=chat(Tool("f", "one"), Tool("f", "another"))), "tools"),
        (request(prompt=chat(Tool("f", parameters={"enum": ["v" * 600]}))), "tools"),
        (request(format=Format("json_schema", '{"title": "%s"}' % ("t" * 100))), "response_format"),
        (request(format=Format("regex", "é" * 51)), "response_format"),
    ],
)
async def test_what_is_too_much_is_refused_by_name_before_the_place_is_asked(asked: Request, param: str) -> None:
    class Deaf(EchoPlace):
        async def complete(self, request: Request, deadline: Deadline):  # type: ignore[no-untyped-def]
            raise AssertionError("the place was asked")
            yield

    guard = Guard(Deaf(), LIMITS, Rates())  # type: ignore[arg-type]
    with pytest.raises(BadRequest) as refused:
        [event async for event in guard.complete(asked, DEADLINE)]
    assert refused.value.param == param and refused.value.fix and guard.reserved_bytes == 0


async def test_memory_is_reserved_while_an_answer_runs_and_given_back_however_it_ends() -> None:
    guard = Guard(EchoPlace(), LIMITS, Rates())  # type: ignore[arg-type]
    running = guard.complete(request(max_tokens=150), DEADLINE)
    await anext(running)
    assert guard.reserved_bytes == 150 * TOKEN_BYTES
    with pytest.raises(Overloaded, match="together more than the 15,000"):
        await anext(guard.complete(request(max_tokens=150), DEADLINE))
    await running.aclose()  # the caller hung up
    assert guard.reserved_bytes == 0
    assert len([event async for event in guard.complete(request(max_tokens=150), DEADLINE)]) == 3
    assert guard.reserved_bytes == 0


@given(
    st.integers(1, 128), st.integers(0, 2**40) | st.none(), st.integers(0, 20) | st.none(), st.integers(1, 10**6)
)
def test_more_of_anything_never_costs_less(n: int, max_tokens: int | None, num_top: int | None, context: int) -> None:
    asked = request(n=n, max_tokens=max_tokens, num_top=num_top, prompt=TokenIds((1, 2, 3)))
    cost, more = cost_of(asked, context), cost_of(msgspec.structs.replace(asked, n=n + 1), context)
    assert 0 <= cost.num_bytes <= more.num_bytes and 3 <= cost.num_tokens <= more.num_tokens
    assert cost.num_tokens <= 3 + n * context
    if num_top is not None and max_tokens:
        wider = cost_of(msgspec.structs.replace(asked, num_top=num_top + 1), context)
        assert wider.num_bytes >= cost.num_bytes


def test_usual_requests_are_far_within_the_usual_limits() -> None:
    """An evaluation with log-probabilities, a long answer, a handful of tools."""
    tools = tuple(Tool(f"f{at}", "does something", {"type": "object", "properties": {}}) for at in range(20))
    for asked in (
        request(max_tokens=None), request(n=8, max_tokens=4096), request(num_top=20, max_tokens=1024, n=4),
        request(prompt=chat(*tools)),
    ):  # fmt: skip
        expect_within(asked, cost_of(asked, 131_072), Limits())


def test_absurd_sampling_is_refused_over_http_with_the_field(server: Server) -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
    tools = [{"type": "function", "function": {"name": f"f{at}"}} for at in range(129)]
    status, _, answer = server.send("POST", "/v1/chat/completions", body | {"tools": tools})
    assert status == 400 and b"129 tools" in answer


def test_a_request_leaves_a_timeline_without_a_word_of_it(server: Server) -> None:
    body = {"model": MODEL, "prompt": "A secret canary prompt", "max_tokens": 5, "stream": True}
    headers = {"x-request-id": "timeline-1", "x-deadline-ms": "60000"}
    status, _, _ = server.send("POST", "/v1/completions", body, headers)
    assert status == 200
    server.wait_until(lambda: bool(timelines_of(server.ledger.path, "timeline-1")))
    (one,) = timelines_of(server.ledger.path, "timeline-1")
    assert (one.route, one.status, one.model, one.owner) == ("/v1/completions", 200, MODEL, "local")
    assert one.num_answer == 5 and one.num_prompt > 0 and one.finish_reason == "length" and one.code == ""
    assert one.budget_total_s == pytest.approx(60) and one.budget_ttft_s is None
    assert one.ttft_s is not None and one.total_s is not None and 0 < one.ttft_s <= one.total_s
    assert b"canary" not in b"".join(file.read_bytes() for file in Path(server.ledger.path).parent.iterdir())


def test_a_failed_request_leaves_a_timeline_with_its_code(server: Server) -> None:
    server.engine.error = Overloaded("Full.", fix="Wait.", retry_after_s=1)
    body = {"model": MODEL, "prompt": "The", "max_tokens": 5}
    assert server.send("POST", "/v1/completions", body, {"x-request-id": "timeline-2"})[0] == 503
    server.wait_until(lambda: bool(timelines_of(server.ledger.path, "timeline-2")))
    (one,) = timelines_of(server.ledger.path, "timeline-2")
    assert (one.status, one.code, one.num_answer, one.ttft_s) == (503, "overloaded", 0, None)


def test_a_whole_answer_says_in_its_head_where_the_time_went(server: Server) -> None:
    body = {"model": MODEL, "prompt": "The", "max_tokens": 5}
    _, headers, answer = server.send("POST", "/v1/completions", body)
    parts = dict(part.strip().split(";dur=") for part in headers["server-timing"].split(","))
    assert {"queue", "prefill", "decode", "ttft", "total"} <= set(parts)
    assert 0 < float(parts["ttft"]) <= float(parts["total"])
    timing = json.loads(answer)["usage"]["timing"]
    assert timing["ttft_s"] * 1000 == pytest.approx(float(parts["ttft"]), abs=0.01)
    assert set(timing) >= {"queue_s", "prefill_s", "decode_s", "itl_s", "total_s", "predicted"}


def test_a_stream_says_the_first_token_in_its_head_and_the_rest_in_its_usage(server: Server) -> None:
    body = {"model": MODEL, "prompt": "The", "max_tokens": 5, "stream": True, "stream_options": {"include_usage": True}}
    _, headers, answer = server.send("POST", "/v1/completions", body)
    assert headers["server-timing"].startswith("ttft;dur=") and "total" not in headers["server-timing"]
    last = json.loads(answer.split(b"\n\n")[-3].removeprefix(b"data: "))
    assert last["usage"]["timing"]["decode_s"] >= 0


def test_a_header_asks_for_a_receipt_which_the_ledger_keeps_too(server: Server) -> None:
    from isochrone.api.verifying import parse_receipts
    from isochrone.ledger import receipts_of

    body = {"model": MODEL, "prompt": [5, 6, 7], "max_tokens": 4, "n": 2, "temperature": 0.7}
    headers = {"isochrone-receipt": "1", "x-request-id": "receipt-1"}
    _, _, answer = server.send("POST", "/v1/completions", body, headers)
    given = parse_receipts(answer)
    server.wait_until(lambda: len(receipts_of(server.ledger.path, "receipt-1")) == 2)
    kept = [one for raw in receipts_of(server.ledger.path, "receipt-1") for one in parse_receipts(raw)]
    assert sorted(given, key=lambda one: one.sample) == sorted(kept, key=lambda one: one.sample)
    assert [one.sample for one in given] == [0, 1] and all(isinstance(one, Receipt) for one in given)
    assert given[0].prompt_ids == (5, 6, 7) and given[0].answer_ids == (5, 6, 7, 5) and given[0].model == MODEL
    assert given[0].sampling.temperature == 0.7 and given[0].seed == given[1].seed


def test_nobody_gets_a_receipt_unasked(server: Server) -> None:
    body = {"model": MODEL, "prompt": "The", "max_tokens": 4}
    assert b"receipt" not in server.send("POST", "/v1/completions", body, {"isochrone-receipt": "0"})[2]
