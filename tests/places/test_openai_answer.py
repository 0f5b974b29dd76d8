"""Chunks of the servers that people run, read alike however their bytes are cut."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.errors import (
    BadRequest,
    ContentFiltered,
    ContextTooLong,
    IsochroneError,
    NotFound,
    Overloaded,
    PlaceRefused,
    Throttled,
    Unreachable,
)
from isochrone.places.openai_answer import OpenAIAnswer
from isochrone.places.openai_faults import fault_of, retry_after_s
from isochrone.places.openai_load import headroom_of, load_of
from isochrone.places.openai_sse import Events
from isochrone.places.place import Delta, Scored, Timing, ToolDelta, Usage
from tests.places.canned import chunk, events, usage


def read(data: bytes, sizes: list[int] = [], n: int = 1, repeated: str = "") -> list[Delta]:  # noqa: B006
    stream, answer, out = Events(), OpenAIAnswer("there", n, 0.0, repeated), []
    for size in [*sizes, len(data)]:
        for name, event in stream.push(data[:size]):
            out += answer.push(name, event)
        data = data[size:]
    if not answer.is_done:
        for name, event in stream.close():
            out += answer.push(name, event)
        out += answer.close()
    return out


FUNCTION = {"name": "f", "arguments": ""}
RICH = events(
    b": keep-alive\n\n",
    chunk({"role": "assistant", "content": ""}),
    b"event: ping\nid: 7\nretry: 10\n\n",
    chunk({"reasoning_content": "Über "}),
    chunk({"content": "日本 🙂"}),
    chunk({"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": FUNCTION}]}),
    chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"a": "é'}}]}),
    chunk({"tool_calls": [{"index": 0, "function": {"arguments": '"}'}}]}),
    chunk(reason="tool_calls"),
    usage(7, 9, prompt_tokens_details={"cached_tokens": 4}),
)
SAID = [
    Delta(0, "", 1, reasoning="Über ", num_reasoning=1),
    Delta(0, "日本 🙂", 1),
    Delta(0, "", 1, tool_calls=(ToolDelta(0, "c1", "f"),)),
    Delta(0, "", 1, tool_calls=(ToolDelta(0, arguments='{"a": "é'),)),
    Delta(0, "", 1, tool_calls=(ToolDelta(0, arguments='"}'),)),
    Delta(0, "", 0, finish_reason="tool_calls", num_cached=4, usage=Usage(7, 9, 4)),
]


@given(st.lists(st.integers(0, 30), max_size=80), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_however_the_bytes_are_cut_and_lines_end_the_deltas_are_the_same(sizes: list[int], newline: bytes) -> None:
    assert read(RICH.replace(b"\n", newline), sizes) == SAID


def test_every_single_cut_gives_the_same() -> None:
    for at in range(len(RICH)):
        assert read(RICH, [at]) == SAID


@pytest.mark.parametrize(
    ("data", "last"),
    [
        (events(chunk({"content": "a"}), chunk(reason="length"), end=b""), Delta(0, "", 0, finish_reason="length")),
        (events(chunk({"content": "a"}, reason="stop"), usage(1, 2), end=b""),
         Delta(0, "", 0, finish_reason="stop", usage=Usage(1, 2))),
        (events(chunk({"content": "a"}, reason="stop", usage={"prompt_tokens": 1, "completion_tokens": 2})),
         Delta(0, "", 0, finish_reason="stop", usage=Usage(1, 2))),
        (events(chunk({"content": "a"})), Delta(0, "", 0, finish_reason="stop")),
        (events(chunk({"content": "a"}), chunk(reason="stop"), end=b"data: [DONE]"),
         Delta(0, "", 0, finish_reason="stop")),
        (events(chunk({"content": "a"}), chunk(reason="content_filter")),
         Delta(0, "", 0, finish_reason="content_filter")),
    ],
)  # fmt: skip
def test_every_way_to_end_is_an_end(data: bytes, last: Delta) -> None:
    assert read(data) == [Delta(0, "a", 1), last]


@pytest.mark.parametrize("end", [b"", b"da", b": bye\n\n"])
def test_a_stream_without_an_end_is_broken_off(end: bytes) -> None:
    for chunks in ((), (chunk({"content": "a"}),)):
        with pytest.raises(Unreachable, match="broke off"):
            read(events(*chunks, end=end))


def test_a_server_that_gave_up_says_so() -> None:
    with pytest.raises(Unreachable, match="abort"):
        read(events(chunk({"content": "a"}), chunk(reason="abort")))


def calls_of(*calls: list[dict[str, Any]]) -> list[tuple[int, str, str, str]]:
    deltas = read(events(*(chunk({"tool_calls": part}) for part in calls), chunk(reason="stop")))
    assert deltas[-1].finish_reason == "tool_calls"
    return [(c.index, c.id, c.name, c.arguments) for delta in deltas for c in delta.tool_calls]


def test_calls_are_told_apart_as_servers_write_them() -> None:
    f, g = {"name": "f", "arguments": "{}"}, {"name": "g", "arguments": '{"a":1}'}
    both = [(0, "x", "f", "{}"), (1, "y", "g", '{"a":1}')]
    assert calls_of([{"index": 0, "id": "x", "function": f}, {"index": 1, "id": "y", "function": g}]) == both
    assert calls_of([{"id": "x", "function": f}], [{"id": "y", "function": g}]) == both, "without an index"
    assert calls_of([{"index": 0, "id": "x", "function": f}], [{"index": 0, "id": "y", "function": g}]) == both
    again = {"index": 0, "id": "x", "function": {"name": "f", "arguments": "2"}}
    assert calls_of([{"index": 0, "id": "x", "function": {"name": "f", "arguments": "1"}}], [again]) == [
        (0, "x", "f", "1"), (0, "", "", "2"),
    ]  # fmt: skip
    early = {"index": 0, "function": {"arguments": "1"}}
    assert calls_of([{"index": 0, "id": "x"}], [early], [{"index": 0, "function": f}]) == [(0, "x", "f", "1{}")]
    ((_, id, _, arguments),) = calls_of([{"index": 0, "function": {"name": "f", "arguments": {"a": 1}}}])
    assert id.startswith("call_") and json.loads(arguments) == {"a": 1}


def test_scores_are_read_in_both_shapes() -> None:
    top = {"token": "é", "bytes": [195], "logprob": -2.0}
    chat = {"content": [{"token": "a", "bytes": None, "logprob": -0.5, "top_logprobs": [top]}]}
    text = {"tokens": ["a"], "token_logprobs": [-0.5], "top_logprobs": [{"b": -2.0}]}
    choice = {"index": 0, "text": "a", "logprobs": text, "finish_reason": None}
    one, _ = read(events({"choices": [{"index": 0, "delta": {"content": "a"}, "logprobs": chat}]}))
    assert one.scored == (Scored("a", b"a", -0.5, (("é", b"\xc3", -2.0),)),)
    other, _ = read(events({"choices": [choice]}))
    assert other.scored == (Scored("a", b"a", -0.5, (("b", b"b", -2.0),)),) and other.text == "a"


@pytest.mark.parametrize(
    ("more", "timing"),
    [
        ({"timings": {"prompt_ms": 12.5, "predicted_ms": 100.0, "draft_n": 4, "draft_n_accepted": 3}},
         Timing(0.0, 0.0125, 0.1, num_drafted=4, num_accepted=3)),
        ({"metrics": {"time_to_first_token_ms": 30.0, "queue_time_ms": 10.0, "generation_time_ms": 200.0}},
         Timing(0.01, 0.02, 0.2)),
        ({"usage": {"prompt_tokens": 1, "timing": {"queue_s": 1.0, "prefill_s": 2.0, "decode_s": 3.0}}},
         Timing(1.0, 2.0, 3.0)),
        ({"timings": {"prompt_ms": None}}, None),
    ],
)  # fmt: skip
def test_where_the_time_went_is_told(more: dict[str, Any], timing: Timing | None) -> None:
    assert read(events(chunk({"content": "a"}), chunk(reason="stop", **more)))[-1].timing == timing


@given(st.lists(st.integers(1, 6), max_size=12), st.text("ab ", min_size=1, max_size=8), st.text("ab ", max_size=8))
def test_words_that_a_server_says_again_are_not_said_twice(sizes: list[int], begun: str, rest: str) -> None:
    text, parts = begun + rest, []
    for size in [*sizes, len(text)]:
        parts.append(text[:size])
        text = text[size:]
    said = read(events(*(chunk({"content": part}) for part in parts if part), chunk(reason="stop")), repeated=begun)
    assert "".join(delta.text for delta in said) == rest


def test_words_that_a_server_does_not_say_again_all_count() -> None:
    for text in ("xy", "a"):
        said = read(events(chunk({"content": text}), chunk(reason="stop")), repeated="ab")
        assert "".join(delta.text for delta in said) == text


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ({"error": {"message": "Slow down", "type": "rate_limit_error", "code": 429}}, Throttled),
        ({"error": {"message": "Slow down", "code": "rate_limit_exceeded"}}, Throttled),
        ({"error": {"message": "CUDA out of memory", "type": "internal"}}, Unreachable),
        ({"error": "went wrong"}, Unreachable),
        ({"error": {"message": "Overloaded", "type": "overloaded_error"}}, Overloaded),
        ({"object": "error", "message": "too long: maximum context length is 9", "code": 400}, ContextTooLong),
        ({"error": {"message": "filtered", "code": "content_filter"}}, ContentFiltered),
        (b"event: error\ndata: {\"message\": \"no\", \"code\": 503}\n\n", Overloaded),
        (b"event: error\ndata: plain words\n\n", Unreachable),
        (b"error: {\"code\": 400, \"message\": \"invalid\"}\n\n", BadRequest),
        (b"data: {no json\n\n", Unreachable),
    ],
)  # fmt: skip
def test_an_error_in_the_middle_has_a_type(event: Any, kind: type[IsochroneError]) -> None:
    with pytest.raises(kind) as caught:
        read(events(chunk({"content": "a"}), event))
    assert type(caught.value) is kind


def error(message: str, **more: Any) -> bytes:
    return json.dumps({"error": {"message": message, **more}}).encode()


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, error("The maximum context length is 4096 tokens", code="context_length_exceeded"), ContextTooLong),
        (400, b'{"object":"error","message":"The input is too long","code":400}', ContextTooLong),
        (400, error("bad", param="tools"), BadRequest),
        (400, error("filtered", code="content_filter"), ContentFiltered),
        (422, b'{"detail": [{"loc": ["body"], "msg": "field required"}]}', BadRequest),
        (401, error("wrong key"), PlaceRefused), (403, b"", PlaceRefused), (404, b"<html>", NotFound),
        (402, error("add credit"), PlaceRefused), (429, error("spent", code="insufficient_quota"), PlaceRefused),
        (429, error("slow down"), Throttled), (503, b"loading", Overloaded), (529, b"[]", Overloaded),
        (500, b"\xff", Unreachable), (408, b"null", Unreachable), (302, b"", Unreachable),
        (400, b'[{"error": {"message": "wrapped"}}]', BadRequest),
    ],
)  # fmt: skip
def test_a_refusal_has_a_type(status: int, body: bytes, kind: type[IsochroneError]) -> None:
    fault = fault_of("there", status, {"retry-after": "7"}, body, 0.0)
    assert type(fault) is kind and f"there answered {status}" in fault.message and fault.fix
    assert getattr(fault, "retry_after_s", 7.0) == 7.0
    assert not isinstance(fault, BadRequest) or fault.param == ("tools" if b"tools" in body else None)


def test_what_a_server_says_of_a_key_that_it_does_not_take_reaches_no_caller() -> None:
    body = b'{"error": {"message": "Incorrect API key provided: sk-secret", "code": "invalid_api_key"}}'
    fault = fault_of("there", 401, {}, body, 0.0)
    assert type(fault) is PlaceRefused and "sk-secret" not in f"{fault}{fault.__dict__}"


FIELDS = st.sampled_from(["error", "message", "code", "type", "detail", "param"])
JSON = st.recursive(
    st.none() | st.text() | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=4),
).map(lambda value: json.dumps(value).encode())


@given(st.integers(100, 599), st.binary(max_size=60) | JSON)
def test_no_refusal_however_odd_is_more_than_a_refusal(status: int, body: bytes) -> None:
    assert isinstance(fault_of("there", status, {}, body, 0.0), IsochroneError)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "3"}, 3.0), ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "soon"}, 1.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:01:40 GMT"}, 40.0), ({"retry-after": "-4"}, 1.0), ({}, 1.0),
    ],
)  # fmt: skip
def test_when_to_come_again(headers: dict[str, str], seconds: float) -> None:
    assert retry_after_s(headers, 60.0) == seconds


def test_the_load_of_each_server_is_read_from_its_own_names() -> None:
    vllm = (
        "# TYPE vllm:num_requests_running gauge\n"
        'vllm:num_requests_running{engine="0",model_name="a}b"} 3.0\nvllm:num_requests_running{engine="1"} 2.0\n'
        'vllm:num_requests_waiting{engine="0"} 4\nvllm:kv_cache_usage_perc{engine="0"} 0.25\nodd\nother NaN\n'
    )
    load = load_of(vllm, "vllm")
    assert load is not None and (load.num_running, load.num_waiting, load.kv_used) == (5, 4, 0.25)
    sglang = 'sglang:num_running_reqs{m="x"} 1.0\nsglang:num_queue_reqs{m="x"} 6.0\nsglang:token_usage{m="x"} 0.5\n'
    load = load_of(sglang, "sglang")
    assert load is not None and (load.num_running, load.num_waiting, load.kv_used) == (1, 6, 0.5)
    load = load_of("llamacpp:requests_processing 2\nllamacpp:requests_deferred 1 1700000000\n", "llamacpp")
    assert load is not None and (load.num_running, load.num_waiting, load.kv_used) == (2, 1, None)
    assert load_of("<html>", "vllm") is None


def test_the_least_quota_that_is_left_counts() -> None:
    quota = {"x-ratelimit-limit-requests": "100", "x-ratelimit-remaining-requests": "50"}
    tokens = {"x-ratelimit-limit-tokens": "1000", "x-ratelimit-remaining-tokens": "100"}
    assert (headroom_of({}), headroom_of(quota), headroom_of(quota | tokens)) == (None, 0.5, 0.1)
