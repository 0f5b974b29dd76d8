"""Tools, formats and thoughts through the client that people use: what goes to the engine, and what comes back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel

from isochrone.gateway.serve import Serving
from tests.gateway.conftest import MODEL, Server, start_server, stop_server
from tests.gateway.saying import SayingEngine, write_model

ASK: list[Any] = [{"role": "user", "content": "Weather in Bonn?"}]
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER: Any = {"type": "function", "function": {"name": "get_weather", "description": "Tells.", "parameters": CITY}}
NOW: Any = {"type": "function", "function": {"name": "now"}}
BONN = '{"city": "Bonn"}'


def tagged(arguments: str = BONN, name: str = "get_weather") -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


@pytest.fixture(scope="module")
def saying_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = write_model(tmp_path_factory.mktemp("model"))
    serving = Serving(port=0, log_level="error")
    server = start_server(directory, serving, lambda: SayingEngine(directory))
    yield server
    stop_server(server)


@pytest.fixture
def engine(saying_server: Server) -> SayingEngine:
    engine: SayingEngine = saying_server.engine
    engine.submitted.clear()
    engine.cancelled.clear()
    engine.texts, engine.num_at_once, engine.reason = ["Hi."], 1, "stop"
    return engine


@pytest.fixture
def client(saying_server: Server) -> OpenAI:
    return saying_server.client()


def ask(client: OpenAI, **options: Any) -> Any:
    return client.chat.completions.create(**{"model": MODEL, "messages": ASK, "tools": [WEATHER, NOW]} | options)


def test_a_call_is_a_call_of_the_sdk(client: OpenAI, engine: SayingEngine) -> None:
    engine.texts = [f"Let me see.\n{tagged()}\n{tagged('{}', 'now')}"]
    choice = ask(client).choices[0]
    assert choice.finish_reason == "tool_calls" and choice.message.content == "Let me see."
    first, second = choice.message.tool_calls
    assert (first.function.name, first.function.arguments, first.type) == ("get_weather", BONN, "function")
    assert (second.function.name, second.function.arguments) == ("now", "{}")
    assert first.id.startswith("call_") and first.id != second.id


def test_content_is_null_where_there_is_nothing_but_calls(client: OpenAI, engine: SayingEngine) -> None:
    engine.texts = [tagged()]
    assert ask(client).choices[0].message.content is None
    engine.texts = ["Fine."]
    choice = ask(client).choices[0]
    assert choice.finish_reason == "stop" and choice.message.content == "Fine." and choice.message.tool_calls is None


@pytest.mark.parametrize("num_at_once", [1, 3, 100])
def test_streamed_calls_have_their_own_index_and_are_announced_once(
    client: OpenAI, engine: SayingEngine, num_at_once: int
) -> None:
    engine.texts, engine.num_at_once = [f"So:{tagged()}\n{tagged('{}', 'now')}"], num_at_once
    calls: dict[int, dict[str, str]] = {}
    text, reasons = "", []
    for chunk in ask(client, stream=True):
        delta = chunk.choices[0].delta
        text += delta.content or ""
        reasons.append(chunk.choices[0].finish_reason)
        for call in delta.tool_calls or ():
            if call.id is not None:
                assert call.index not in calls and call.type == "function"
                calls[call.index] = {"id": call.id, "name": call.function.name, "arguments": ""}
            else:
                assert call.function.name is None
            calls[call.index]["arguments"] += call.function.arguments
    assert text == "So:" and reasons[-1] == "tool_calls" and set(reasons[:-1]) == {None}
    assert [(call["name"], call["arguments"]) for call in calls.values()] == [("get_weather", BONN), ("now", "{}")]
    assert list(calls) == [0, 1] and calls[0]["id"] != calls[1]["id"]


def test_arguments_come_as_they_are_written(client: OpenAI, engine: SayingEngine) -> None:
    engine.texts = [tagged()]
    chunks = [chunk.choices[0].delta.tool_calls for chunk in ask(client, stream=True)]
    assert sum(bool(calls) for calls in chunks) > 5


def test_the_sdk_gathers_a_stream_into_the_same_message(client: OpenAI, engine: SayingEngine) -> None:
    engine.texts = [tagged()]
    with client.chat.completions.stream(model=MODEL, messages=ASK, tools=[WEATHER]) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert "tool_calls.function.arguments.delta" in kinds and "tool_calls.function.arguments.done" in kinds
    assert final.choices[0].message.tool_calls[0].function.arguments == BONN


def test_each_of_n_answers_has_its_own_calls(client: OpenAI, engine: SayingEngine) -> None:
    engine.texts = [tagged(), "No.", f"{tagged('{}', 'now')}\n{tagged()}"]
    whole = ask(client, n=3)
    assert [len(choice.message.tool_calls or ()) for choice in whole.choices] == [1, 0, 2]
    assert [choice.finish_reason for choice in whole.choices] == ["tool_calls", "stop", "tool_calls"]
    names: dict[tuple[int, int], str] = {}
    for chunk in ask(client, n=3, stream=True):
        for call in chunk.choices[0].delta.tool_calls or ():
            if call.function.name:
                names[chunk.choices[0].index, call.index] = call.function.name
    assert names == {(0, 0): "get_weather", (2, 0): "now", (2, 1): "get_weather"}


def test_a_call_that_was_cut_ends_for_its_length(client: OpenAI, engine: SayingEngine) -> None:
    engine.texts, engine.reason = [tagged()[:60]], "length"
    choice = ask(client).choices[0]
    assert choice.finish_reason == "length" and choice.message.tool_calls[0].function.name == "get_weather"


def test_a_deadline_is_said_beside_the_length(client: OpenAI, engine: SayingEngine) -> None:
    engine.reason = "deadline"
    whole = ask(client)
    assert whole.choices[0].finish_reason == "length" and whole.isochrone == {"ended_by": "deadline"}
    last = list(ask(client, stream=True))[-1]
    assert last.choices[0].finish_reason == "length" and last.isochrone == {"ended_by": "deadline"}


def test_stop_strings_end_words_and_no_calls(client: OpenAI, engine: SayingEngine) -> None:
    engine.texts = [tagged()]
    assert ask(client, stop="Bonn").choices[0].message.tool_calls[0].function.arguments == BONN
    engine.texts = [f"In Bonn it rains.{tagged()}"]
    choice = ask(client, stop="Bonn").choices[0]
    assert choice.message.content == "In " and choice.message.tool_calls is None and choice.finish_reason == "stop"
    assert len(engine.cancelled) == 1


@pytest.mark.parametrize("text", [f"So:{tagged()}", "<think>\nHm.\n</think>\n\nYes.", "Yes. "])
def test_every_token_is_scored_once_whatever_it_is_part_of(client: OpenAI, engine: SayingEngine, text: str) -> None:
    engine.texts = [text]
    scored = ask(client, logprobs=True).choices[0].logprobs.content
    assert bytes(byte for token in scored for byte in token.bytes) == text.encode()
    streamed = [
        token
        for chunk in ask(client, logprobs=True, stream=True)
        if chunk.choices[0].logprobs
        for token in chunk.choices[0].logprobs.content
    ]
    assert [token.token for token in streamed] == [token.token for token in scored]


def test_thoughts_come_apart_and_are_counted(client: OpenAI, engine: SayingEngine) -> None:
    engine.texts = ["<think>\nHm, well.\n</think>\n\nYes."]
    whole = ask(client)
    assert whole.choices[0].message.content == "Yes."
    assert whole.choices[0].message.reasoning_content == "Hm, well."
    counts = whole.usage
    assert 0 < counts.completion_tokens_details.reasoning_tokens < counts.completion_tokens
    deltas = [chunk.choices[0].delta for chunk in ask(client, stream=True)]
    assert "".join(getattr(delta, "reasoning_content", "") for delta in deltas) == "Hm, well."
    assert "".join(delta.content or "" for delta in deltas) == "Yes."


def test_effort_none_closes_the_thought_in_the_prompt(client: OpenAI, engine: SayingEngine) -> None:
    ask(client, reasoning_effort="none")
    assert engine.prompt().endswith("</think>\n\n")
    ask(client, extra_body={"chat_template_kwargs": {"enable_thinking": False}})
    assert engine.prompt().endswith("</think>\n\n")
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, extra_body={"chat_template_kwargs": {"mood": "gay"}})
    assert caught.value.param == "chat_template_kwargs" and "mood" in caught.value.message


def test_timing_is_in_the_usage(client: OpenAI, engine: SayingEngine) -> None:
    timing = ask(client).usage.timing
    assert (timing["prefill_s"], timing["decode_s"], timing["forced_tokens"]) == (1.0, 2.0, 3)


def test_the_template_is_given_the_tools_and_the_conversation(client: OpenAI, engine: SayingEngine) -> None:
    called = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": BONN}}
    messages = [
        *ASK, {"role": "assistant", "tool_calls": [called]},
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "rain"}]},
    ]  # fmt: skip
    ask(client, messages=messages)
    assert json.dumps(WEATHER["function"]["name"]) in engine.prompt()
    assert f"<|im_start|>assistant\n{tagged()}<|im_end|>\n<|im_start|>tool\nrain<|im_end|>" in engine.prompt()


@pytest.mark.parametrize(
    ("options", "inside", "outside"),
    [
        ({}, "get_weather", "unreached"),
        ({"tool_choice": "required"}, "answer: <tool_call> calls", "prose"),
        ({"tool_choice": {"type": "function", "function": {"name": "now"}}}, "now", "get_weather"),
        (
            {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [NOW]}}},
            "now", "get_weather",
        ),
    ],
)  # fmt: skip
def test_the_engine_is_given_a_grammar(
    client: OpenAI, engine: SayingEngine, options: dict[str, Any], inside: str, outside: str
) -> None:
    ask(client, **options)
    grammar = engine.submitted[0].grammar
    assert grammar is not None and grammar.kind == "lark"
    source = grammar.source.replace('"<tool_call>"', "<tool_call>")
    assert inside in source and outside not in source


def test_tools_that_may_not_be_called_are_not_shown_and_bind_nothing(client: OpenAI, engine: SayingEngine) -> None:
    engine.texts = [tagged()]
    choice = ask(client, tool_choice="none").choices[0]
    assert engine.submitted[0].grammar is None and "get_weather" not in engine.prompt()
    assert choice.message.content == tagged() and choice.message.tool_calls is None


class Place(BaseModel):
    city: str
    days: int


def test_parse_gives_an_object(client: OpenAI, engine: SayingEngine) -> None:
    engine.texts = ['{"city": "Bonn", "days": 3}']
    parsed = client.chat.completions.parse(model=MODEL, messages=ASK, response_format=Place)
    assert parsed.choices[0].message.parsed == Place(city="Bonn", days=3)
    grammar = engine.submitted[0].grammar
    assert grammar is not None and '"days"' in grammar.source


@pytest.mark.parametrize(
    ("body", "kind", "source"),
    [
        ({"response_format": {"type": "json_object"}}, "lark", '"type": "object"'),
        ({"structured_outputs": {"regex": "[0-9]+"}}, "lark", "/[0-9]+/"),
        ({"structured_outputs": {"choice": ["yes", "no"]}}, "lark", '"yes" | "no"'),
        ({"structured_outputs": {"grammar": 'start: "x"'}}, "lark", 'start: "x"'),
    ],
)
def test_every_format_reaches_the_engine(
    client: OpenAI, engine: SayingEngine, body: dict[str, Any], kind: str, source: str
) -> None:
    client.chat.completions.create(model=MODEL, messages=ASK, extra_body=body)
    grammar = engine.submitted[0].grammar
    assert grammar is not None and (grammar.kind, source in grammar.source) == (kind, True)


def test_a_completion_can_be_held_to_a_format_too(client: OpenAI, engine: SayingEngine) -> None:
    client.completions.create(model=MODEL, prompt="x", extra_body={"structured_outputs": {"regex": "[0-9]+"}})
    grammar = engine.submitted[0].grammar
    assert grammar is not None and (grammar.kind, grammar.source) == ("regex", "[0-9]+")


def test_what_agents_ask_beyond_openai_reaches_the_engine(client: OpenAI, engine: SayingEngine) -> None:
    own = {"cache": {"pin": True, "ttl": 60}, "drafts": False, "budget": {"itl": "50ms"}}
    ask(client, extra_body=own)
    submit = engine.submitted[0]
    assert (submit.pin_s, submit.drafts, submit.itl_s) == (60.0, False, 0.05)


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"tools": [WEATHER, WEATHER]}, "tools[1].function.name"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        ({"tool_choice": "sometimes"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "rm"}}}, "tool_choice"),
        ({"tools": [], "tool_choice": "required"}, "tool_choice"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "user", "content": "x", "tool_call_id": "y"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "user", "content": "x", "reasoning": "y"}]}, "messages[0].reasoning"),
        ({"messages": [{"role": "user", "content": "x", "refusal": "y"}]}, "messages[0].refusal"),
        ({"extra_body": {"structured_outputs": {}}}, "structured_outputs"),
        ({"extra_body": {"structured_outputs": {"regex": "a", "choice": ["b"]}}}, "structured_outputs"),
    ],
)
def test_what_cannot_be_is_refused_by_name(
    client: OpenAI, engine: SayingEngine, options: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, **options)
    assert caught.value.param == param and engine.submitted == []
