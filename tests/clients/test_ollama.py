"""ollama's SDK: chats, texts, formats, tools, and what it asks of a server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ollama
import pytest

from tests.clients.conftest import CONTEXT, NAME
from tests.clients.weather import QUESTION, SCHEMA, Forecast

ASK = [{"role": "user", "content": QUESTION}]
GREEDY = {"temperature": 0, "num_predict": 24}


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[ollama.Client]:
    with ollama.Client(url) as client:
        yield client


def test_a_streamed_chat_is_the_whole_one_and_says_where_its_time_went(client: ollama.Client) -> None:
    whole = client.chat(NAME, ASK, options=GREEDY)
    parts = list(client.chat(NAME, ASK, options=GREEDY, stream=True, keep_alive="5m"))
    assert "".join(part.message.content or "" for part in parts) == whole.message.content
    last = parts[-1]
    assert last.done and last.eval_count == whole.eval_count and last.prompt_eval_count == whole.prompt_eval_count
    total, reading, writing = last.total_duration, last.prompt_eval_duration, last.eval_duration
    assert total and reading and writing and reading + writing <= total


def test_a_text_is_continued_raw(client: ollama.Client) -> None:
    answer = client.generate(NAME, "The capital of France is", raw=True, options=GREEDY)
    assert "Paris" in (answer.response or "")


def test_an_answer_keeps_to_a_format(client: ollama.Client) -> None:
    answer = client.chat(NAME, ASK, format=SCHEMA, options={"num_predict": 60})
    Forecast.model_validate_json(answer.message.content or "")


def test_tools_are_offered_and_a_call_has_an_object_of_arguments(client: ollama.Client) -> None:
    tool: Any = {"type": "function", "function": {"name": "forecast", "description": "Tell it", "parameters": SCHEMA}}
    answer = client.chat(NAME, ASK, tools=[tool], options={"temperature": 0, "num_predict": 80})
    assert answer.message.content or answer.message.tool_calls
    for call in answer.message.tool_calls or ():
        Forecast.model_validate(call.function.arguments)
    turns = [*ASK, {"role": "assistant", "tool_calls": [{"function": {"name": "forecast", "arguments": {
        "city": "Rome", "days": 2}}}]}, {"role": "tool", "content": "sunny", "tool_name": "forecast"}]  # fmt: skip
    assert client.chat(NAME, turns, options=GREEDY).message.content


def test_the_server_says_what_it_serves(client: ollama.Client) -> None:
    (listed,) = client.list().models
    assert listed.model == NAME and listed.size and listed.details and listed.details.parameter_size == "134.5M"
    shown = client.show(NAME)
    assert shown.template and set(shown.capabilities or ()) >= {"completion", "tools"}
    (running,) = client.ps().models
    assert running.context_length == CONTEXT


def test_an_option_that_cannot_be_honoured_is_refused_by_name(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match="mirostat"):
        client.chat(NAME, ASK, options={"mirostat": 2})
