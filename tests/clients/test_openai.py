"""openai's SDK: chat, streams, tools, parsed answers, completions and responses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI

from tests.clients.conftest import NAME
from tests.clients.weather import QUESTION, SCHEMA, Forecast

ASK: Any = [{"role": "user", "content": QUESTION}]
FUNCTION = {"name": "forecast", "description": "Tell the weather", "parameters": SCHEMA, "strict": True}


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_a_streamed_chat_is_the_whole_one(client: OpenAI) -> None:
    options: Any = {"model": NAME, "messages": ASK, "max_tokens": 24, "temperature": 0}
    whole = client.chat.completions.create(**options)
    chunks = list(client.chat.completions.create(**options, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content and len(text.split()) > 3
    assert whole.usage is not None and chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "forecast"}}])
def test_a_tool_is_called_with_valid_arguments(client: OpenAI, choice: Any) -> None:
    answer = client.chat.completions.create(
        model=NAME, messages=ASK, tools=[{"type": "function", "function": FUNCTION}], tool_choice=choice,
        parallel_tool_calls=False, max_tokens=80, temperature=0,
    )  # fmt: skip
    (call,) = answer.choices[0].message.tool_calls or ()
    assert call.type == "function" and call.function.name == "forecast"
    Forecast.model_validate_json(call.function.arguments)
    assert answer.choices[0].finish_reason == "tool_calls"


def test_a_streamed_call_is_put_together_by_the_client(client: OpenAI) -> None:
    tools: Any = [{"type": "function", "function": FUNCTION}]
    with client.chat.completions.stream(
        model=NAME, messages=ASK, tools=tools, tool_choice="required", parallel_tool_calls=False, max_tokens=80,
        temperature=0,
    ) as stream:  # fmt: skip
        events = list(stream)
        (call,) = stream.get_final_completion().choices[0].message.tool_calls or ()
    assert "tool_calls.function.arguments.done" in {event.type for event in events}
    Forecast.model_validate_json(call.function.arguments)


def test_an_answer_is_parsed_into_its_type(client: OpenAI) -> None:
    answer = client.chat.completions.parse(
        model=NAME, messages=ASK, response_format=Forecast, max_tokens=60, temperature=1
    )
    assert isinstance(answer.choices[0].message.parsed, Forecast)


def test_a_completion_has_log_probabilities(client: OpenAI) -> None:
    answer = client.completions.create(
        model=NAME, prompt="The capital of France is", max_tokens=2, temperature=0, logprobs=2, echo=True
    )
    assert "Paris" in answer.choices[0].text
    assert answer.choices[0].logprobs is not None and answer.choices[0].logprobs.token_logprobs[1] < 0


def test_a_response_is_streamed_stored_continued_and_deleted(client: OpenAI) -> None:
    with client.responses.stream(model=NAME, input=QUESTION, max_output_tokens=24, temperature=0) as stream:
        events = list(stream)
    first = events[-1].response if events[-1].type == "response.incomplete" else stream.get_final_response()
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == first.output_text and first.output_text
    assert [event.sequence_number for event in events] == sorted({event.sequence_number for event in events})
    second = client.responses.create(
        model=NAME, input="And then?", previous_response_id=first.id, max_output_tokens=8, temperature=0
    )
    assert second.usage is not None and first.usage is not None
    assert second.usage.input_tokens > first.usage.input_tokens
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)


def test_a_response_calls_a_tool_and_is_parsed(client: OpenAI) -> None:
    tool: Any = {"type": "function", **FUNCTION}
    answer = client.responses.create(
        model=NAME, input=QUESTION, tools=[tool], tool_choice="required", parallel_tool_calls=False,
        max_output_tokens=80, temperature=0,
    )  # fmt: skip
    (call,) = [item for item in answer.output if item.type == "function_call"]
    Forecast.model_validate_json(call.arguments)
    parsed = client.responses.parse(
        model=NAME, input=QUESTION, text_format=Forecast, max_output_tokens=60, temperature=0
    )
    assert isinstance(parsed.output_parsed, Forecast)


def test_models_are_listed(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [NAME]
