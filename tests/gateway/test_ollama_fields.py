"""Bodies of Ollama's API: every documented field and option is honoured or refused by name."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ollama import _types as documented

from isochrone.errors import BadRequest
from isochrone.gateway import ollama_fields as fields
from isochrone.gateway.limits import Limits
from isochrone.gateway.ollama_request import chat_request, generate_request
from isochrone.places.place import Chat, Format, Message, Request, Sampling, Text, Tool, ToolCall
from tests.gateway.test_fields import JSON

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
CALL = {"function": {"name": "f", "arguments": {"a": 1}}}


def chat(**changes: Any) -> Request:
    parsed = fields.CHAT_PARSER.parse(json.dumps(CHAT | changes).encode())
    fields.expect_honoured(parsed, 512)
    return chat_request(parsed, id="r", tenant="local", limits=Limits())


def generate(**changes: Any) -> Request:
    parsed = fields.GENERATE_PARSER.parse(json.dumps({"model": "m", "prompt": "hi"} | changes).encode())
    fields.expect_honoured(parsed, 512)
    return generate_request(parsed, id="r", tenant="local")


def turns(*messages: dict[str, Any]) -> tuple[Message, ...]:
    prompt = chat(messages=list(messages)).prompt
    assert isinstance(prompt, Chat)
    return prompt.messages


@pytest.mark.parametrize(
    ("theirs", "ours", "fates"),
    [
        (documented.ChatRequest, fields.ChatFields, (fields.CHAT_HONOURED, fields.ACCEPTED, fields.REFUSED)),
        (documented.GenerateRequest, fields.GenerateFields,
         (fields.GENERATE_HONOURED, fields.ACCEPTED, fields.GENERATE_REFUSED)),
        (documented.Options, fields.Options,
         (fields.OPTIONS_HONOURED, fields.OPTIONS_ACCEPTED, fields.OPTIONS_REFUSED)),
    ],
)  # fmt: skip
def test_every_documented_field_has_one_fate_and_the_server_knows_it(theirs: Any, ours: Any, fates: Any) -> None:
    known = set().union(*fates)
    assert sum(map(len, fates)) == len(known) and known == set(ours.__struct_fields__)
    assert set(theirs.model_fields) <= known


@pytest.mark.parametrize("name", sorted(fields.GENERATE_REFUSED))
def test_what_is_not_offered_is_refused_by_name_unless_it_asks_for_nothing(name: str) -> None:
    for value in (None, *fields.GENERATE_REFUSED[name][0]):
        assert generate(**{name: value}) == generate()
    with pytest.raises(BadRequest, match=f"{name} is not supported") as caught:
        generate(**{name: 7})
    assert caught.value.param == name


@pytest.mark.parametrize("name", sorted(fields.OPTIONS_REFUSED))
def test_an_option_that_is_not_offered_is_refused_by_name_unless_it_asks_for_nothing(name: str) -> None:
    for value in (None, *fields.OPTIONS_REFUSED[name][0]):
        assert chat(options={name: value}) == chat()
    with pytest.raises(BadRequest, match=f"options.{name} is not supported") as caught:
        chat(options={name: 7})
    assert caught.value.param == f"options.{name}"


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"options": {"temprature": 1}}, "options.temprature"),
        ({"options": {"num_ctx": 513}}, "options.num_ctx"),
        ({"options": {"repeat_last_n": 64, "repeat_penalty": 1.1}}, "options.repeat_last_n"),
        ({"keep_alive": 0}, "keep_alive"),
        ({"keep_alive": "0s"}, "keep_alive"),
        ({"keep_alive": "soon"}, "keep_alive"),
        ({"format": "xml"}, "format"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"messages": [{"role": "user", "content": "x", "images": ["aGk="]}]}, "messages[0].images"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "tool", "content": "x", "tool_name": "g"}]}, "messages[0].role"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(changes: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        chat(**changes)
    assert caught.value.param == param


def test_defaults_are_ollamas() -> None:
    assert chat().sampling == Sampling(temperature=0.8, top_k=40, top_p=0.9)
    assert chat().max_tokens is None and fields.CHAT_PARSER.parse(json.dumps(CHAT).encode()).is_streamed()


def test_options_are_the_sampling() -> None:
    request = chat(options={
        "temperature": 0, "top_k": -1, "top_p": 0.5, "min_p": 0.1, "seed": 7, "num_predict": 9, "num_ctx": 512,
        "stop": ["a", "b"], "repeat_penalty": 1.2, "presence_penalty": 0.5, "frequency_penalty": -0.5,
    })  # fmt: skip
    assert request.sampling == Sampling(0, 0, 0.5, 0.1, 1.2, 0.5, -0.5, seed=7)
    assert (request.max_tokens, request.stops) == (9, ("a", "b"))
    assert chat(options={"num_predict": -2, "seed": -1, "stop": "x"}).max_tokens is None
    assert chat(options={"repeat_last_n": 0, "repeat_penalty": 2}).sampling.repetition_penalty == 1


def test_the_name_may_carry_the_tag_that_programs_write_behind_it() -> None:
    assert chat(model="m:latest").model == generate(model="m:latest").model == "m"


def test_a_format_is_a_schema_or_any_object() -> None:
    assert chat(format="json").format == Format("json_schema", '{"type":"object"}')
    assert chat(format={"type": "array"}).format == Format("json_schema", '{"type":"array"}')
    assert chat(format="").format is chat(format=None).format is None


def test_calls_and_their_results_find_each_other_without_ids() -> None:
    other = {"function": {"name": "g", "arguments": {}}, "id": "mine"}
    made = turns(
        {"role": "assistant", "content": "", "thinking": "hm", "tool_calls": [CALL, CALL, other]},
        {"role": "tool", "content": "1"},
        {"role": "tool", "content": "3", "tool_name": "g"},
        {"role": "tool", "content": "2", "tool_name": "f"},
    )
    calls = (ToolCall("call_0_0", "f", '{"a":1}'), ToolCall("call_0_1", "f", '{"a":1}'), ToolCall("mine", "g", "{}"))
    assert made == (
        Message("assistant", "", tool_calls=calls, reasoning="hm"),
        Message("tool", "1", "f", tool_call_id="call_0_0"),
        Message("tool", "3", "g", tool_call_id="mine"),
        Message("tool", "2", "f", tool_call_id="call_0_1"),
    )


def test_tools_and_thinking_go_to_the_model() -> None:
    offered = {"name": "f", "description": "d", "parameters": {"type": "object"}}
    prompt = chat(tools=[{"type": "function", "function": offered}], think="low").prompt
    assert isinstance(prompt, Chat)
    assert prompt.tools == (Tool("f", "d", {"type": "object"}),)
    assert prompt.template_variables == {"enable_thinking": True, "reasoning_effort": "low"}
    assert generate(think=False).prompt == Chat(
        (Message("user", "hi"),), template_variables={"enable_thinking": False}
    )


def test_a_raw_prompt_goes_as_it_is_and_another_is_a_conversation() -> None:
    assert generate(raw=True).prompt == Text("hi")
    assert generate(system="s").prompt == Chat((Message("system", "s"), Message("user", "hi")))
    for name, value in (("system", "s"), ("think", True)):
        with pytest.raises(BadRequest) as caught:
            generate(raw=True, **{name: value})
        assert caught.value.param == name


@settings(max_examples=200)
@given(st.dictionaries(st.sampled_from(fields.GenerateFields.__struct_fields__), JSON, max_size=5))
def test_any_values_are_a_request_or_a_typed_error(changes: dict[str, Any]) -> None:
    try:
        generate(**changes)
    except BadRequest as error:
        assert error.message and error.fix


def test_calls_without_end_that_nobody_answered_are_refused() -> None:
    """Each answer is looked for among them."""
    calls = {"role": "assistant", "tool_calls": [CALL] * (Limits().num_messages + 1)}
    with pytest.raises(BadRequest) as error:
        turns({"role": "user", "content": "hi"}, calls)
    assert error.value.param == "messages[1].tool_calls"
