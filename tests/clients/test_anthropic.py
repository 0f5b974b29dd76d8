"""anthropic's SDK: messages, streams, tools, formats, counted tokens and pinned prompts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic

from tests.clients.conftest import CONTEXT, NAME
from tests.clients.weather import QUESTION, SCHEMA, Forecast

ASK: Any = [{"role": "user", "content": QUESTION}]
TOOL: Any = {"name": "forecast", "description": "Tell the weather", "input_schema": SCHEMA}
LONG = "You are a weather station on a hill. " * 20


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[Anthropic]:
    with Anthropic(base_url=url, api_key="none", max_retries=0) as client:
        yield client


def test_a_streamed_message_is_the_whole_one(client: Anthropic) -> None:
    options: Any = {"model": NAME, "messages": ASK, "max_tokens": 24, "extra_body": {"temperature": 0}}
    whole = client.messages.create(**options)
    with client.messages.stream(**options) as stream:
        text = "".join(stream.text_stream)
        streamed = stream.get_final_message()
    assert whole.content[0].type == "text" and text == whole.content[0].text and len(text.split()) > 3
    assert (streamed.stop_reason, streamed.usage.output_tokens) == (whole.stop_reason, whole.usage.output_tokens)


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "forecast"}])
def test_a_tool_is_called_and_its_result_read(client: Anthropic, choice: Any) -> None:
    options: Any = {"model": NAME, "max_tokens": 80, "tools": [TOOL], "extra_body": {"temperature": 0}}
    only_one = choice | {"disable_parallel_tool_use": True}
    with client.messages.stream(messages=ASK, tool_choice=only_one, **options) as stream:
        called = stream.get_final_message()
    (call,) = [block for block in called.content if block.type == "tool_use"]
    Forecast.model_validate(call.input)
    assert called.stop_reason == "tool_use"
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "It will be sunny."}
    turns = [*ASK, {"role": "assistant", "content": called.content}, {"role": "user", "content": [result]}]
    told = client.messages.create(messages=turns, tool_choice={"type": "none"}, **options)
    assert told.content[0].type == "text" and told.content[0].text


def test_an_answer_keeps_to_a_schema(client: Anthropic) -> None:
    format: Any = {"type": "json_schema", "schema": SCHEMA}
    answer = client.messages.create(model=NAME, messages=ASK, max_tokens=60, output_config={"format": format})
    assert answer.content[0].type == "text"
    Forecast.model_validate_json(answer.content[0].text)


def test_counted_tokens_are_those_of_the_prompt_and_a_marked_one_is_found_again(client: Anthropic) -> None:
    system: Any = [{"type": "text", "text": LONG, "cache_control": {"type": "ephemeral", "ttl": "5m"}}]
    counted = client.messages.count_tokens(model=NAME, system=system, messages=ASK).input_tokens
    usages = [
        client.messages.create(model=NAME, system=system, messages=ASK, max_tokens=1).usage for _ in range(2)
    ]
    for usage in usages:
        read, written = usage.cache_read_input_tokens or 0, usage.cache_creation_input_tokens or 0
        assert usage.input_tokens + read + written == counted
    assert (usages[1].cache_read_input_tokens or 0) > counted // 2


def test_a_stop_sequence_is_named_and_a_full_context_is_said(client: Anthropic) -> None:
    options: Any = {"model": NAME, "extra_body": {"temperature": 0}}
    counting: Any = [{"role": "user", "content": "Count: one, two, three, four, five, six. Repeat that."}]
    stopped = client.messages.create(messages=counting, max_tokens=60, stop_sequences=["four", "five", "e"], **options)
    assert stopped.stop_reason == "stop_sequence" and stopped.stop_sequence in ("four", "five", "e")
    with pytest.raises(anthropic.BadRequestError, match="context"):
        client.messages.create(messages=[{"role": "user", "content": "word " * CONTEXT}], max_tokens=9, **options)


def test_a_refusal_names_what_cannot_be_done(client: Anthropic) -> None:
    image: Any = {"type": "image", "source": {"type": "url", "url": "http://localhost/x.png"}}
    with pytest.raises(anthropic.BadRequestError, match="image"):
        client.messages.create(model=NAME, max_tokens=9, messages=[{"role": "user", "content": [image]}])
    with pytest.raises(anthropic.NotFoundError) as caught:
        client.messages.create(model="other", max_tokens=9, messages=ASK)
    assert caught.value.request_id
