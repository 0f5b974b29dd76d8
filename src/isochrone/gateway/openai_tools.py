"""The tools, the choice among them and the formats of OpenAI's chat body, in this server's words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta

from isochrone.errors import BadRequest
from isochrone.places.place import Format, Tool, ToolChoice

ToolName: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.:-]{1,128}$")]
ANY_OBJECT = '{"type":"object"}'


class FunctionOfTool(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """strict  refuses a schema that cannot be enforced to the letter; calls fit their schema either way"""

    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionTool(msgspec.Struct, tag_field="type", tag="function", forbid_unknown_fields=True):
    function: FunctionOfTool


class TextFormat(msgspec.Struct, tag_field="type", tag="text", forbid_unknown_fields=True):
    """Text as it comes."""


class JsonObjectFormat(msgspec.Struct, tag_field="type", tag="json_object", forbid_unknown_fields=True):
    """Any JSON object."""


class NamedSchema(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """strict  changes nothing: the model is held to the schema either way"""

    name: Annotated[str, Meta(max_length=256)]
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class JsonSchemaFormat(msgspec.Struct, tag_field="type", tag="json_schema", forbid_unknown_fields=True):
    json_schema: NamedSchema


ResponseFormat: TypeAlias = TextFormat | JsonObjectFormat | JsonSchemaFormat


class StructuredOutputs(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What the whole answer must be, named as vLLM names it: exactly one of these.

    json     a JSON schema, as an object or as its text;  json_object  any JSON object
    regex    a regular expression;  choice: one of these texts;  grammar: Lark, in llguidance's dialect
    """

    json: dict[str, Any] | str | None = None
    json_object: bool | None = None
    regex: Annotated[str, Meta(min_length=1)] | None = None
    choice: Annotated[list[Annotated[str, Meta(min_length=1)]], Meta(min_length=1, max_length=1024)] | None = None
    grammar: Annotated[str, Meta(min_length=1)] | None = None


def tools_of(tools: list[FunctionTool] | None) -> tuple[Tool, ...]:
    """Raises BadRequest when two have one name."""
    seen: set[str] = set()
    for index, tool in enumerate(tools or ()):
        if tool.function.name in seen:
            raise BadRequest(
                f"tools[{index}] has the name {tool.function.name}, as another tool does.",
                fix="Give each tool a name of its own.", param=f"tools[{index}].function.name",
            )  # fmt: skip
        seen.add(tool.function.name)
    return tuple(
        Tool(tool.function.name, tool.function.description or "", tool.function.parameters, bool(tool.function.strict))
        for tool in tools or ()
    )


def chosen(tools: tuple[Tool, ...], choice: str | dict[str, Any] | None) -> tuple[tuple[Tool, ...], ToolChoice]:
    """The tools that may be called, and whether one must be.  Raises BadRequest."""
    match choice:
        case None | "auto":
            return tools, ToolChoice()
        case "none":
            return tools, ToolChoice("none")
        case "required":
            _expect_offered((), tools)
            return tools, ToolChoice("required")
        case {"type": "function", "function": {"name": str(name)}}:
            _expect_offered((name,), tools)
            return tools, ToolChoice("required", name)
        case {"type": "allowed_tools", "allowed_tools": {"mode": "auto" | "required" as mode, "tools": [*allowed]}}:
            names = _names(allowed)
            _expect_offered(names, tools)
            return tuple(tool for tool in tools if tool.name in names), ToolChoice(mode)
    raise BadRequest(
        f"tool_choice cannot be {msgspec.json.encode(choice).decode()[:80]}.",
        fix='Send "none", "auto", "required", a function with its name, or allowed_tools.', param="tool_choice",
    )  # fmt: skip


def _names(allowed: Sequence[object]) -> tuple[str, ...]:
    names = []
    for index, item in enumerate(allowed):
        match item:
            case {"type": "function", "function": {"name": str(name)}} | {"type": "function", "name": str(name)}:
                names.append(name)
            case _:
                raise BadRequest(
                    f"tool_choice.allowed_tools.tools[{index}] is not a function with a name.",
                    fix='Send {"type": "function", "function": {"name": ...}}.', param="tool_choice",
                )  # fmt: skip
    return tuple(names)


def _expect_offered(names: Iterable[str], tools: tuple[Tool, ...]) -> None:
    offered = [tool.name for tool in tools]
    if not offered:
        raise BadRequest("tool_choice asks for a call, but there are no tools.", fix="Send tools.", param="tool_choice")
    for name in names:
        if name not in offered:
            raise BadRequest(
                f"tool_choice names {name[:80]}, which is not among the tools.",
                fix=f"Choose one of {', '.join(offered[:20])}.", param="tool_choice",
            )  # fmt: skip


def format_of(response_format: ResponseFormat | None, structured: StructuredOutputs | None) -> Format | None:
    """What the text must be.  Raises BadRequest when that is said twice."""
    wanted = _of_response_format(response_format)
    if structured is None:
        return wanted
    if wanted is not None:
        raise BadRequest(
            "response_format and structured_outputs are both given.", fix="Send one.", param="structured_outputs"
        )
    return _of_structured(structured)


def _of_response_format(response_format: ResponseFormat | None) -> Format | None:
    match response_format:
        case JsonObjectFormat():
            return Format("json_schema", ANY_OBJECT)
        case JsonSchemaFormat(named):
            return Format("json_schema", ANY_OBJECT if named.schema is None else _encoded(named.schema))
    return None


def _of_structured(structured: StructuredOutputs) -> Format:
    given = [name for name in structured.__struct_fields__ if getattr(structured, name) not in (None, False)]
    if len(given) != 1:
        raise BadRequest(
            f"structured_outputs has {', '.join(given) or 'none of its fields'}, and exactly one is needed.",
            fix="Send one of json, json_object, regex, choice and grammar.", param="structured_outputs",
        )  # fmt: skip
    if structured.json is not None:
        source = structured.json if isinstance(structured.json, str) else _encoded(structured.json)
        return Format("json_schema", source)
    if structured.regex is not None:
        return Format("regex", structured.regex)
    if structured.choice is not None:
        return Format("lark", "start: " + " | ".join(_encoded(choice) for choice in structured.choice))
    return Format("lark", structured.grammar) if structured.grammar else Format("json_schema", ANY_OBJECT)


def _encoded(value: Any) -> str:
    return msgspec.json.encode(value).decode()
