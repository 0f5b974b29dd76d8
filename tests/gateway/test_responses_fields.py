"""Bodies of `/v1/responses`: every documented field, item and tool is honoured or refused by name."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from openai.types.responses import response_create_params as documented
from openai.types.responses.response_input_item import ResponseInputItem
from openai.types.responses.tool import Tool as DocumentedTool

from isochrone.errors import BadRequest
from isochrone.gateway import openai_responses_fields as fields
from isochrone.gateway import openai_responses_items as items
from isochrone.gateway import openai_responses_tools as tools
from isochrone.places.place import Message, ToolCall
from tests.gateway.test_fields import JSON

BODY: dict[str, Any] = {"model": "m", "input": "hi"}
FUNCTION: dict[str, Any] = {"type": "function", "name": "f"}


def read(body: dict[str, Any]) -> tuple[tools.Tools, tuple[Message, ...]]:
    parsed: fields.ResponseFields = fields.PARSER.parse(json.dumps(body).encode())
    fields.expect_honoured(parsed)
    placed = [(f"input[{index}]", item) for index, item in enumerate(items.items_of(parsed.input))]
    return tools.tools_of(parsed.tools, parsed.tool_choice), items.turns(placed)


def messages(*given: dict[str, Any]) -> tuple[Message, ...]:
    return read(BODY | {"input": list(given)})[1]


def literals(union: Any) -> set[str]:
    """The values of `type` in a documented union."""
    return {
        value
        for kind in get_args(get_args(union)[0])
        for value in _flat(kind.model_fields["type"].annotation)
        if isinstance(value, str)
    }


def _flat(annotation: Any) -> list[Any]:
    return [leaf for part in get_args(annotation) for leaf in (_flat(part) or [part])]


def test_every_documented_field_has_one_fate_and_the_server_knows_it() -> None:
    fates = [set(fields.HONOURED), set(fields.ACCEPTED), set(fields.REFUSED)]
    assert sum(map(len, [*fates, fields.OWN])) == len(set(fields.OWN).union(*fates))
    assert set(documented.ResponseCreateParamsBase.__annotations__) | {"stream"} <= set().union(*fates)
    assert set(fields.OWN).union(*fates) == set(fields.ResponseFields.__struct_fields__)


def test_every_documented_item_and_tool_has_one_fate() -> None:
    assert literals(ResponseInputItem) <= set(items.KINDS) | items.LEFT_OUT | items.REFUSED_KINDS
    assert literals(DocumentedTool) <= set(tools.KINDS) | tools.LEFT_OUT | tools.REFUSED
    assert not items.LEFT_OUT & items.REFUSED_KINDS and not tools.LEFT_OUT & tools.REFUSED


@pytest.mark.parametrize("name", sorted(fields.REFUSED))
def test_what_is_not_offered_is_refused_by_name_unless_it_asks_for_nothing(name: str) -> None:
    for value in (None, *fields.REFUSED[name][0]):
        read(BODY | {name: value})
    other: Any = {"n": 2, "service_tier": "flex", "truncation": "auto"}.get(name, {"type": "something"})
    with pytest.raises(BadRequest, match=f"{name} is not supported") as caught:
        read(BODY | {name: other})
    assert caught.value.param == name


@pytest.mark.parametrize("kind", sorted(items.REFUSED_KINDS))
def test_items_that_the_model_cannot_know_of_are_refused_by_name(kind: str) -> None:
    with pytest.raises(BadRequest, match=f"is of type {kind}") as caught:
        messages({"role": "user", "content": "x"}, {"type": kind})
    assert caught.value.param == "input[1].type"


@pytest.mark.parametrize("kind", sorted(tools.REFUSED))
def test_tools_that_the_caller_would_wait_for_are_refused_by_name(kind: str) -> None:
    with pytest.raises(BadRequest, match=f"of type {kind}") as caught:
        read(BODY | {"tools": [FUNCTION, {"type": kind}]})
    assert caught.value.param == "tools[1].type"
    with pytest.raises(BadRequest, match=f"tool_choice asks for {kind}"):
        read(BODY | {"tool_choice": {"type": kind}})


@pytest.mark.parametrize("kind", sorted(tools.LEFT_OUT))
def test_tools_that_agents_do_without_are_left_out_and_named(kind: str) -> None:
    offered, _ = read(BODY | {"tools": [{"type": kind, "whatever": 1}, FUNCTION]})
    assert offered.left_out == (kind,) and [tool.name for tool in offered.tools] == ["f"]


@pytest.mark.parametrize(
    ("field", "value", "message", "param"),
    [
        ("text", {"verbosity": "low"}, "text.verbosity is not supported", "text.verbosity"),
        ("reasoning", {"mode": "pro"}, "reasoning.mode is not supported", "reasoning.mode"),
        ("reasoning", {"summary": "detailed"}, "reasoning.summary is not supported", "reasoning.summary"),
        ("prompt_cache_options", {"mode": "explicit"}, "prompt_cache_options.mode", "prompt_cache_options.mode"),
        ("text", {"format": {"type": "json_schema", "schema": {}}}, "The field text.format.name is missing", None),
        ("metadata", {"k": 1}, "metadata[...] must be a text", None),
        ("metadata", {str(n): "" for n in range(17)}, "metadata must have at most 16 items.", "metadata"),
        ("max_output_tokens", 0, "max_output_tokens must be at least 1.", "max_output_tokens"),
        ("temprature", 1, "There is no field 'temprature'.", "temprature"),
        ("include", ["x"], "include[0] cannot be 'x'.", "include[0]"),
        ("stream_options", {}, "stream_options is given, but stream is not true.", "stream_options"),
        ("tools", [FUNCTION, FUNCTION], "tools[1] is the second tool of the name f.", "tools[1].name"),
        ("tools", [{"type": "teleport"}], "tools[0] has the type teleport", "tools[0].type"),
        ("tools", [{"type": ["a"]}], "tools[0] has the type ['a']", "tools[0].type"),
        ("tools", [FUNCTION | {"paramaters": {}}], "There is no field 'tools[0].paramaters'.", "tools[0].paramaters"),
        ("tools", [FUNCTION | {"name": "a b"}], "tools[0].name", "tools[0].name"),
        ("tools", [FUNCTION | {"async": True}], "tools[0].async is not supported", "tools[0].async"),
        ("tools", [FUNCTION | {"allowed_callers": ["programmatic"]}], "tools[0].allowed_callers", None),
        ("tools", [{"type": "custom", "name": "c", "format": {"type": "grammar", "syntax": "lark", "definition": ""}}],
         "tools[0].format is not supported", "tools[0].format"),
        ("tool_choice", "required", "tool_choice wants a call, and no tools are offered.", "tool_choice"),
        ("tool_choice", {"type": "function", "name": "g"}, "tool_choice names 'g'", "tool_choice"),
        ("tool_choice", "perhaps", "tool_choice is nothing that this server knows.", "tool_choice"),
        ("input", [{"role": "king", "content": "x"}], "input[0].role cannot be 'king'.", "input[0].role"),
        ("input", [{"role": "user"}], "The field input[0].content is missing.", "input[0].content"),
        ("input", [{"role": "user", "content": [{"type": "input_image"}]}], "input[0].content[0].type cannot be",
         "input[0].content[0].type"),
        ("input", [{"type": "dream"}], "input[0] is of type dream", "input[0].type"),
        ("input", [{"type": "function_call_output", "call_id": "c", "output": "x"}],
         "input[0] answers the call 'c', and no call of that id comes before it.", "input[0].call_id"),
        ("background", True, None, None),
    ],
)  # fmt: skip
def test_a_wrong_field_is_said_in_words(field: str, value: Any, message: str | None, param: str | None) -> None:
    if message is None:
        read(BODY | {field: value})
        return
    with pytest.raises(BadRequest) as caught:
        read(BODY | {field: value})
    assert caught.value.message.startswith(message)
    assert param is None or caught.value.param == param


@pytest.mark.parametrize("more", [{"store": False}, {"stream": True}])
def test_a_background_response_that_nobody_could_fetch_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(BadRequest, match="background"):
        read(BODY | {"background": True} | more)


def test_items_of_one_turn_are_one_message() -> None:
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    assert messages(
        {"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
        {"role": "assistant", "content": [{"type": "output_text", "text": "Let me."}]},
        call,
        {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "3"}]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        {"role": "assistant", "content": "Yes."},
    ) == (
        Message("user", "ab"),
        Message("assistant", "Let me.", tool_calls=(ToolCall("c", "f", "{}"),), reasoning="hm"),
        Message("tool", "3", name="f", tool_call_id="c"),
        Message("assistant", "No."),
        Message("assistant", "Yes."),
    )


def test_thoughts_of_earlier_turns_can_be_left_unread() -> None:
    thought = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]}
    user = {"type": "message", "role": "user", "content": "x"}
    placed = [(str(at), item) for at, item in enumerate([thought, user, thought])]
    assert [at for at, _ in items.without_old_thoughts(placed)] == ["1", "2"]


@pytest.mark.parametrize(("effort", "thinks"), [("none", False), ("low", True), ("max", True)])
def test_effort_is_told_to_the_template(effort: str, thinks: bool) -> None:
    parsed = fields.PARSER.parse(json.dumps(BODY | {"reasoning": {"effort": effort}}).encode())
    assert parsed.template_variables()["enable_thinking"] is thinks


def test_a_cache_breakpoint_pins_the_prompt() -> None:
    part = {"type": "input_text", "text": "x", "prompt_cache_breakpoint": {"mode": "explicit", "ttl": "12h"}}
    assert items.pin_s_of([{"role": "user", "content": [part]}, {"content": "x"}]) == 43_200
    parsed = fields.PARSER.parse(json.dumps(BODY | {"prompt_cache_options": {"ttl": "30m"}}).encode())
    assert parsed.pin_s() == 1_800


ITEM = st.fixed_dictionaries(
    {"type": st.sampled_from([*items.KINDS, *items.LEFT_OUT, "other"]) | JSON},
    optional={
        "role": st.sampled_from(["user", "assistant", "system"]) | JSON, "content": JSON, "call_id": JSON, "id": JSON,
        "output": JSON, "arguments": JSON, "name": JSON, "input": JSON, "summary": JSON, "namespace": JSON,
    },
)  # fmt: skip
TOOL = st.fixed_dictionaries(
    {"type": st.sampled_from([*tools.KINDS, *tools.LEFT_OUT]) | JSON},
    optional={"name": st.sampled_from(["f", "g"]) | JSON, "parameters": JSON, "tools": JSON, "format": JSON},
)  # fmt: skip
CHOICE = st.fixed_dictionaries(
    {"type": st.sampled_from(["function", "custom", "allowed_tools"]) | JSON},
    optional={"name": JSON, "namespace": JSON, "mode": st.sampled_from(["auto", "required"]), "tools": st.lists(TOOL)},
)  # fmt: skip


@settings(max_examples=400)
@given(st.dictionaries(st.sampled_from(fields.ResponseFields.__struct_fields__), JSON, max_size=3),
       st.lists(ITEM, max_size=3), st.lists(TOOL, max_size=2), CHOICE | JSON)  # fmt: skip
def test_any_body_is_read_or_refused_by_name(
    changes: dict[str, Any], given_items: list[Any], given_tools: list[Any], choice: Any
) -> None:
    body = BODY | {"input": given_items, "tools": given_tools, "tool_choice": choice} | changes
    try:
        read(body)
    except BadRequest as error:
        is_own_words = "`" not in error.message or "`" in repr(body)  # a decoder's words name fields in backticks
        assert is_own_words and len(str(error)) < 500 and error.fix
        assert error.param is None or error.param.split("[")[0].split(".")[0] in {*body, "stream_options"}


@given(st.binary(max_size=200))
@example(b'{"model":"m","input":"\\ud800"}')
@example(b'{"model":"m","input":[' + b"[" * 5000)
def test_any_bytes_are_a_body_or_a_typed_error(body: bytes) -> None:
    try:
        fields.PARSER.parse(body)
    except BadRequest as error:
        assert error.message and error.fix
