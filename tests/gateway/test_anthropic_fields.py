"""Bodies of `/v1/messages`: every documented field and block is honoured or refused by name."""

from __future__ import annotations

import json
from typing import Any, get_args, get_type_hints

import pytest
from anthropic.types import content_block_param, message_count_tokens_params, message_create_params
from anthropic.types.beta import message_create_params as beta_params
from hypothesis import example, given, settings
from hypothesis import strategies as st

from isochrone.errors import BadRequest
from isochrone.gateway import anthropic_fields as fields
from isochrone.gateway.anthropic_request import to_request
from isochrone.gateway.limits import Limits
from isochrone.places.place import Chat, Format, Message, Request, Tool, ToolCall, ToolChoice
from tests.gateway.test_fields import JSON

HI = {"role": "user", "content": "hi"}
BODY: dict[str, Any] = {"model": "m", "max_tokens": 50, "messages": [HI]}
TOOL: dict[str, Any] = {"name": "f", "input_schema": {"type": "object"}}
CALL: dict[str, Any] = {"type": "tool_use", "id": "c1", "name": "f", "input": {"a": 1}}


def read(**changes: Any) -> Request:
    parsed = fields.PARSER.parse(json.dumps(BODY | changes).encode())
    return to_request(parsed, id="r", tenant="local", limits=Limits())


def chat(**changes: Any) -> Chat:
    prompt = read(**changes).prompt
    assert isinstance(prompt, Chat)
    return prompt


def refused(**changes: Any) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        read(**changes)
    return caught.value


def test_every_documented_field_has_one_fate_and_the_server_knows_it() -> None:
    fates = [set(fields.HONOURED), set(fields.ACCEPTED), set(fields.REFUSED)]
    known = set().union(*fates)
    assert sum(map(len, fates)) == len(known) and known == set(fields.MessageFields.__struct_fields__)
    assert set(message_create_params.MessageCreateParamsBase.__annotations__) <= known
    assert set(beta_params.MessageCreateParamsBase.__annotations__) - {"betas"} <= known  # a header
    counted = set(message_count_tokens_params.MessageCountTokensParams.__annotations__)
    assert counted <= set(fields.CountFields.__struct_fields__)


def test_every_documented_block_has_one_fate() -> None:
    kinds = {
        get_args(get_type_hints(kind, include_extras=False)["type"])[0]
        for kind in get_args(content_block_param.ContentBlockParam)
    }
    assert kinds == set(fields.BLOCKS) | fields.BLOCKS_REFUSED


@pytest.mark.parametrize("name", sorted(fields.REFUSED))
def test_what_is_not_offered_is_refused_by_name_unless_it_asks_for_nothing(name: str) -> None:
    for value in (None, *fields.REFUSED[name][0]):
        assert read(**{name: value}) == read()
    assert refused(**{name: {"type": "something"}}).param == name


@pytest.mark.parametrize("kind", sorted(fields.BLOCKS_REFUSED))
def test_a_block_that_the_model_cannot_read_is_refused_by_its_type(kind: str) -> None:
    error = refused(messages=[{"role": "user", "content": [{"type": kind}]}])
    assert error.param == "messages[0].content[0].type" and repr(kind) in error.message


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": 1.5}, "temperature"),
        ({"temprature": 1}, "temprature"),
        ({"stop_sequences": [""]}, "stop_sequences[0]"),
        ({"messages": [HI, {"role": "assistant", "content": "I was"}]}, "messages"),
        ({"messages": [{"role": "user", "content": [CALL]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "x"}]}]},
         "messages[0].content[0].tool_use_id"),
        ({"tools": [{"type": "web_search_20260318", "name": "web_search", "max_uses": 2}]}, "tools[0].type"),
        ({"tools": [{"name": "f"}]}, "tools[0].input_schema"),
        ({"tools": [TOOL | {"defer_loading": True}]}, "tools[0].defer_loading"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "g"}}, "tool_choice.name"),
        ({"thinking": {"type": "between_tools"}}, "thinking.type"),
        ({"thinking": {"type": "enabled", "budget_tokens": 50}}, "thinking.budget_tokens"),
        ({"output_config": {"format": {"type": "json_schema", "schema": {}}},
          "output_format": {"type": "json_schema", "schema": {}}}, "output_format"),
        ({"cache_control": {"type": "ephemeral", "ttl": "2h"}}, "cache_control.ttl"),
    ],
)  # fmt: skip
def test_what_cannot_be_honoured_is_refused_by_name(changes: dict[str, Any], param: str) -> None:
    assert refused(**changes).param == param


def test_a_body_without_max_tokens_or_messages_is_told_which_is_missing() -> None:
    for name in ("max_tokens", "messages", "model"):
        with pytest.raises(BadRequest) as caught:
            fields.PARSER.parse(json.dumps({key: BODY[key] for key in BODY if key != name}).encode())
        assert caught.value.param == name


def test_a_conversation_with_tools_becomes_turns_as_templates_know_them() -> None:
    prompt = chat(
        system=[{"type": "text", "text": "Be"}, {"type": "text", "text": "brief."}],
        tools=[TOOL | {"description": "Adds", "strict": True}],
        messages=[
            {"role": "user", "content": [{"type": "text", "text": "a"}]},
            {"role": "user", "content": "b"},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "text", "text": "well"}, CALL]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "c1", "is_error": True,
                 "content": [{"type": "text", "text": "no"}]},
                {"type": "text", "text": "so?"}]},
        ],
    )  # fmt: skip
    assert prompt.messages == (
        Message("system", "Be\nbrief."),
        Message("user", "a\nb"),
        Message("assistant", "well", tool_calls=(ToolCall("c1", "f", '{"a":1}'),), reasoning="hm"),
        Message("tool", "Error: no", "f", tool_call_id="c1"),
        Message("user", "so?"),
    )
    assert prompt.tools == (Tool("f", "Adds", {"type": "object"}, True),)


@pytest.mark.parametrize(
    ("given", "choice", "in_parallel"),
    [
        (None, ToolChoice(), True),
        ({"type": "auto", "disable_parallel_tool_use": True}, ToolChoice(), False),
        ({"type": "any"}, ToolChoice("required"), True),
        ({"type": "tool", "name": "f", "disable_parallel_tool_use": True}, ToolChoice("required", "f"), False),
        ({"type": "none"}, ToolChoice("none"), True),
    ],
)
def test_every_choice_of_tools_has_its_form(given: Any, choice: ToolChoice, in_parallel: bool) -> None:
    prompt = chat(tools=[TOOL], tool_choice=given)
    assert (prompt.tool_choice, prompt.parallel_tool_calls) == (choice, in_parallel)


def test_a_cache_mark_anywhere_pins_the_prompt_for_the_longest_time_that_is_asked() -> None:
    def mark(ttl: str | None = None) -> dict[str, Any]:
        return {"cache_control": {"type": "ephemeral"} | ({"ttl": ttl} if ttl else {})}

    def pinned(text: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"type": "text", "text": "x"} | text]

    assert read().pin_s is None
    assert read(**mark()).pin_s == read(system=pinned(mark("5m"))).pin_s == 300
    assert read(messages=[{"role": "user", "content": pinned(mark("1h"))}], **mark()).pin_s == 3600
    assert read(tools=[TOOL | mark("1h")]).pin_s == 3600


def test_thinking_and_effort_go_to_the_template() -> None:
    assert chat().template_variables == {}
    enabled = chat(thinking={"type": "enabled", "budget_tokens": 40}, output_config={"effort": "max"})
    assert enabled.template_variables == {"enable_thinking": True, "thinking_budget": 40, "reasoning_effort": "high"}
    assert chat(thinking={"type": "disabled"}).template_variables == {"enable_thinking": False}


def test_a_format_is_held_to_from_either_place() -> None:
    format = {"type": "json_schema", "schema": {"type": "object"}}
    wanted = Format("json_schema", '{"type":"object"}')
    assert read(output_config={"format": format}).format == read(output_format=format).format == wanted


@given(st.binary(max_size=200))
@example(b'{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"\\ud800"}]}')
def test_any_bytes_are_a_request_or_a_typed_error(body: bytes) -> None:
    expect_request_or_error(body)


@settings(max_examples=200)
@given(st.dictionaries(st.sampled_from(fields.MessageFields.__struct_fields__), JSON, max_size=5))
def test_any_values_are_a_request_or_a_typed_error(changes: dict[str, Any]) -> None:
    expect_request_or_error(json.dumps(BODY | changes).encode())


def expect_request_or_error(body: bytes) -> None:
    try:
        to_request(fields.PARSER.parse(body), id="r", tenant="local", limits=Limits())
    except BadRequest as error:
        assert error.message and error.fix
