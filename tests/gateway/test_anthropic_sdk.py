"""`/v1/messages` through the client that people use, over what a test wrote down."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic

from isochrone.errors import ContextTooLong, Overloaded, Unreachable
from isochrone.places.place import Delta
from tests.gateway.conftest import Server
from tests.gateway.playing import DONE, MODEL, PlayingPlace, called, thought, words

HI: Any = [{"role": "user", "content": "hi"}]
TOOL: Any = {"name": "weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}


@pytest.fixture
def client(playing_server: Server, played: PlayingPlace) -> Iterator[Anthropic]:
    with Anthropic(base_url=playing_server.url, api_key="none", max_retries=0) as client:
        yield client


def ask(client: Anthropic, **changes: Any) -> Any:
    return client.messages.create(**({"model": MODEL, "max_tokens": 50, "messages": HI} | changes))


def test_a_message_is_text_with_usage(client: Anthropic) -> None:
    message = ask(client)
    assert [block.type for block in message.content] == ["text"] and message.content[0].text == "Hello there "
    assert (message.stop_reason, message.stop_sequence, message.role) == ("end_turn", None, "assistant")
    usage = message.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (5, 2, 0)
    assert usage.output_tokens == 3 and usage.timing["ttft_s"] >= 0
    assert message._request_id


def test_a_streamed_message_is_the_whole_one(client: Anthropic, played: PlayingPlace) -> None:
    call = called(0, "weather", '{"city":"Oslo"}')
    played.plays = [[*thought("let me see"), *words("I look.")[:-1], *call, *called(1, "weather", "{}"), *DONE]]
    whole = ask(client, tools=[TOOL])
    with client.messages.stream(model=MODEL, max_tokens=50, messages=HI, tools=[TOOL]) as stream:
        events = list(stream)
        streamed = stream.get_final_message()
    assert [block.to_dict() for block in streamed.content] == [block.to_dict() for block in whole.content]
    assert [block.type for block in whole.content] == ["thinking", "text", "tool_use", "tool_use"]
    assert whole.content[2].input == {"city": "Oslo"} and whole.stop_reason == streamed.stop_reason == "tool_use"
    assert streamed.usage.output_tokens == whole.usage.output_tokens
    assert streamed.usage.input_tokens == whole.usage.input_tokens
    assert whole.usage.output_tokens_details.thinking_tokens == 3
    assert {event.type for event in events} >= {"text", "input_json", "thinking", "content_block_stop"}


def test_events_come_in_the_order_that_clients_count_on(playing_server: Server, played: PlayingPlace) -> None:
    body = {"model": MODEL, "max_tokens": 9, "messages": HI, "stream": True}
    status, headers, text = playing_server.send("POST", "/v1/messages", body)
    events = [dict(line.split(": ", 1) for line in part.split("\n")) for part in text.decode().strip().split("\n\n")]
    assert status == 200 and headers["content-type"] == "text/event-stream"
    assert headers["request-id"] == headers["x-request-id"]
    names = [event["event"] for event in events]
    assert names == [json.loads(event["data"])["type"] for event in events]
    assert names == [
        "message_start", "ping", "content_block_start", "content_block_delta", "content_block_delta",
        "content_block_stop", "message_delta", "message_stop",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("last", "max_tokens", "reason", "sequence"),
    [
        (Delta(0, "", 1, finish_reason="length"), 1, "max_tokens", None),
        (Delta(0, "", 1, finish_reason="length"), 9, "model_context_window_exceeded", None),
        (Delta(0, "", 1, finish_reason="length", ended_by="deadline"), 9, "max_tokens", None),
        (Delta(0, "", 1, finish_reason="stop", stopped_by="END"), 9, "stop_sequence", "END"),
    ],
)
def test_every_end_has_its_reason(
    client: Anthropic, played: PlayingPlace, last: Delta, max_tokens: int, reason: str, sequence: str | None
) -> None:
    played.plays = [[last]]
    message = ask(client, max_tokens=max_tokens)
    assert (message.stop_reason, message.stop_sequence) == (reason, sequence)
    assert (message.model_extra or {}).get("isochrone") == ({"ended_by": "deadline"} if last.ended_by else None)


def test_more_tokens_than_the_context_holds_are_as_many_as_it_holds(client: Anthropic, played: PlayingPlace) -> None:
    played.plays = [[ContextTooLong("too long", fix="shorten")], [Delta(0, "so", 1, finish_reason="length")]]
    message = ask(client, max_tokens=10_000)
    assert message.stop_reason == "model_context_window_exceeded" and message.content[0].text == "so"
    assert [request.max_tokens for request in played.requests] == [10_000, None]


def test_a_prompt_longer_than_the_context_is_refused(client: Anthropic, played: PlayingPlace) -> None:
    played.plays = [[ContextTooLong("too long", fix="shorten")]]
    with pytest.raises(anthropic.BadRequestError, match="too long"):
        ask(client, stream=True)


def test_a_call_that_the_limit_cut_off_is_left_out(client: Anthropic, played: PlayingPlace) -> None:
    cut = called(0, "weather", '{"city":"Oslo"}')[:2]
    played.plays = [[*words("I look.")[:-1], *cut, Delta(0, "", 0, finish_reason="length")]]
    message = ask(client, max_tokens=4, tools=[TOOL])
    assert [block.type for block in message.content] == ["text"] and message.stop_reason == "max_tokens"


def test_thoughts_are_kept_back_when_they_are_to_be_omitted(client: Anthropic, played: PlayingPlace) -> None:
    played.plays = [[*thought("secret"), *words("Hello")]]
    message = ask(client, thinking={"type": "adaptive", "display": "omitted"})
    assert [block.type for block in message.content] == ["thinking", "text"]
    assert message.content[0].thinking == "" and message.content[0].signature


def test_a_pinned_prompt_is_counted_as_written_to_the_cache(client: Anthropic, played: PlayingPlace) -> None:
    usage = ask(client, cache_control={"type": "ephemeral", "ttl": "1h"}).usage
    assert (usage.input_tokens, usage.cache_creation_input_tokens, usage.cache_read_input_tokens) == (0, 5, 2)
    assert played.requests[0].pin_s == 3600


def test_tokens_are_counted_without_an_answer(client: Anthropic, played: PlayingPlace) -> None:
    counted = client.messages.count_tokens(model=MODEL, system="be brief", messages=HI)
    assert counted.input_tokens == 3 and played.requests == []


@pytest.mark.parametrize(
    ("error", "expected", "kind"),
    [
        (Overloaded("busy", fix="wait", retry_after_s=2), anthropic.InternalServerError, "overloaded_error"),
        (Unreachable("gone", fix="wait"), anthropic.InternalServerError, "api_error"),
    ],
)
def test_an_error_is_the_clients_own(
    client: Anthropic, played: PlayingPlace, error: Any, expected: type[Exception], kind: str
) -> None:
    played.plays = [[error]]
    for stream in (False, True):
        with pytest.raises(expected) as caught:
            ask(client, stream=stream)
        body = caught.value.body
        assert body["type"] == "error" and body["error"]["type"] == kind and body["error"]["code"] == error.code
        assert body["request_id"] == caught.value.request_id


def test_busy_is_said_with_the_status_that_clients_know(playing_server: Server, played: PlayingPlace) -> None:
    played.plays = [[Overloaded("busy", fix="wait", retry_after_s=2)]]
    status, headers, _ = playing_server.send("POST", "/v1/messages", {"model": MODEL, "max_tokens": 1, "messages": HI})
    assert status == 529 and headers["retry-after"] == "2"


def test_an_error_in_the_middle_of_a_stream_is_an_event(client: Anthropic, played: PlayingPlace) -> None:
    played.plays = [[*words("Hello")[:1], Unreachable("gone", fix="wait")]]
    with pytest.raises(anthropic.APIStatusError, match="gone"):
        for _ in ask(client, stream=True):
            pass


def test_unknown_paths_methods_and_models_are_refused_in_the_same_words(playing_server: Server) -> None:
    for method, path, body, status in (
        ("GET", "/v1/messages", None, 405),
        ("POST", "/v1/messages/batches", {}, 404),
        ("POST", "/v1/messages", {"model": "x", "max_tokens": 1, "messages": HI}, 404),
    ):
        got, _, text = playing_server.send(method, path, body)
        assert got == status and json.loads(text)["type"] == "error"


def test_headers_of_betas_and_versions_are_taken(client: Anthropic) -> None:
    message = client.beta.messages.create(
        model=MODEL, max_tokens=50, messages=HI, betas=["context-management-2025-06-27"],
        context_management={"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    )  # fmt: skip
    assert message.content[0].type == "text"
