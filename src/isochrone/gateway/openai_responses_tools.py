"""Tools of the Responses API: what the model is offered, how it may choose, and how its calls are said again.

The model knows functions only.  A custom tool is a function that takes one text; a namespace's functions carry its
name in front.  What a server would have to run itself does not exist here: what an agent offers beside its own tools
is left out, and what the caller's loop would wait for is refused by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

from isochrone.errors import BadRequest
from isochrone.places.place import Tool, ToolChoice

from .openai_responses_fields import refusal
from .openai_responses_items import convert, flat_name

LEFT_OUT = frozenset({
    "web_search", "web_search_2025_08_26", "web_search_preview", "web_search_preview_2025_03_11", "image_generation",
    "code_interpreter", "tool_search",
})  # fmt: skip
"""Agents offer these whether or not a server has them, and do without."""
REFUSED = frozenset({
    "file_search", "mcp", "computer", "computer_use", "computer_use_preview", "shell", "local_shell", "apply_patch",
    "programmatic_tool_calling",
})  # fmt: skip
"""Whoever offers these waits for their calls, or counts on their data."""
ToolName: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,128}$")]
Callers: TypeAlias = list[Literal["direct", "programmatic"]]
_ONE_TEXT = {
    "type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"], "additionalProperties": False,
}  # fmt: skip


class FunctionTool(msgspec.Struct, tag_field="type", tag="function", kw_only=True, forbid_unknown_fields=True):
    """defer_loading: offered at once, since there is no search for tools here"""

    name: ToolName
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None
    allowed_callers: Callers | None = None
    defer_loading: bool | None = None
    output_schema: dict[str, Any] | None = None
    is_async: bool | None = msgspec.field(name="async", default=None)


class TextInput(msgspec.Struct, tag_field="type", tag="text", forbid_unknown_fields=True):
    """Any text."""


class GrammarInput(msgspec.Struct, tag_field="type", tag="grammar", forbid_unknown_fields=True):
    definition: str
    syntax: Literal["lark", "regex"]


class CustomTool(msgspec.Struct, tag_field="type", tag="custom", kw_only=True, forbid_unknown_fields=True):
    name: ToolName
    description: str | None = None
    format: TextInput | GrammarInput | None = None
    allowed_callers: Callers | None = None
    defer_loading: bool | None = None
    is_async: bool | None = msgspec.field(name="async", default=None)


class Namespace(msgspec.Struct, tag_field="type", tag="namespace", kw_only=True, forbid_unknown_fields=True):
    name: ToolName
    description: str = ""
    tools: list[FunctionTool | CustomTool]


KINDS: dict[str, type[FunctionTool | CustomTool | Namespace]] = {
    "function": FunctionTool, "custom": CustomTool, "namespace": Namespace,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Offered:
    """How a tool of the model is known to the caller."""

    name: str
    namespace: str | None = None
    is_custom: bool = False


@dataclass(frozen=True, slots=True)
class Tools:
    """tools     as the model sees them;  choice: how it may choose
    offered   by the name that the model uses
    echo      the tools as sent, without those left out;  left_out: their types
    """

    tools: tuple[Tool, ...]
    choice: ToolChoice
    offered: dict[str, Offered]
    echo: list[dict[str, Any]]
    left_out: tuple[str, ...]


def tools_of(given: list[dict[str, Any]] | None, choice: str | dict[str, Any] | None) -> Tools:
    """What a body offers.  Raises BadRequest, which names the tool."""
    tools: list[Tool] = []
    offered: dict[str, Offered] = {}
    echo: list[dict[str, Any]] = []
    left_out: list[str] = []
    for index, wire in enumerate(given or ()):
        where = f"tools[{index}]"
        read = _read(wire, where)
        if read is None:
            left_out.append(wire["type"])
            continue
        echo.append(wire)
        members = read.tools if isinstance(read, Namespace) else [read]
        namespace = read.name if isinstance(read, Namespace) else None
        for tool in members:
            name = flat_name(namespace, tool.name)
            if name in offered:
                raise BadRequest(
                    f"{where} is the second tool of the name {name}.", fix="Give each its own.", param=f"{where}.name"
                )
            offered[name] = Offered(tool.name, namespace, isinstance(tool, CustomTool))
            tools.append(_tool(tool, name, where))
    chosen, among = _choice(choice, offered)
    return Tools(tuple(tool for tool in tools if tool.name in among), chosen, offered, echo, tuple(left_out))


def _read(wire: dict[str, Any], where: str) -> FunctionTool | CustomTool | Namespace | None:
    kind = wire.get("type")
    kind = kind if isinstance(kind, str) else repr(kind)
    if kind in LEFT_OUT:
        return None
    if kind in REFUSED:
        raise BadRequest(
            f"{where} is of type {kind}, a tool that this server does not have.",
            fix="Remove it, or offer a function that you run yourself.", param=f"{where}.type",
        )  # fmt: skip
    if kind not in KINDS:
        raise BadRequest(
            f"{where} has the type {kind[:80]}, which this server does not know.",
            fix=f"Send one of {', '.join(KINDS)}.", param=f"{where}.type",
        )  # fmt: skip
    return convert(wire, KINDS[kind], where)


def _tool(tool: FunctionTool | CustomTool, name: str, where: str) -> Tool:
    if tool.is_async:
        raise refusal(f"{where}.async", "Remove it: a call ends the answer, and its output begins the next.")
    if tool.allowed_callers is not None and "direct" not in tool.allowed_callers:
        raise refusal(f"{where}.allowed_callers", "Add direct: no program calls tools here.")
    if isinstance(tool, FunctionTool):
        return Tool(name, tool.description or "", tool.parameters, bool(tool.strict))
    if isinstance(tool.format, GrammarInput):
        raise refusal(f"{where}.format", "Use the format text, or a function whose parameters are a JSON schema.")
    return Tool(name, tool.description or "", _ONE_TEXT, strict=True)


def _choice(given: str | dict[str, Any] | None, offered: dict[str, Offered]) -> tuple[ToolChoice, set[str]]:
    """(the choice, names of the tools that it leaves)."""
    match given:
        case None | "auto":
            return ToolChoice("auto"), set(offered)
        case "none":
            return ToolChoice("none"), set(offered)
        case "required":
            return ToolChoice("required", None), _expect_some(set(offered))
        case {"type": "function" | "custom", "name": str(name), **more}:
            chosen = _expect_offered(name, more.get("namespace"), offered, "tool_choice")
            return ToolChoice("required", chosen), set(offered)
        case {"type": "allowed_tools", "mode": "auto" | "required" as mode, "tools": list(tools)}:
            among = {
                _expect_offered(tool.get("name"), tool.get("namespace"), offered, f"tool_choice.tools[{index}]")
                for index, tool in enumerate(tools)
                if isinstance(tool, dict) and str(tool.get("type")) not in LEFT_OUT
            }
            return ToolChoice("required" if mode == "required" else "auto"), _expect_some(among)
        case {"type": str(kind)} if kind in LEFT_OUT | REFUSED:
            raise BadRequest(
                f"tool_choice asks for {kind}, a tool that this server does not have.",
                fix="Choose a function, or auto.", param="tool_choice",
            )  # fmt: skip
    raise BadRequest(
        "tool_choice is nothing that this server knows.",
        fix='Send "none", "auto", "required", or {"type": "function", "name": ...}.', param="tool_choice",
    )  # fmt: skip


def _expect_offered(name: Any, namespace: Any, offered: dict[str, Offered], where: str) -> str:
    flat = flat_name(namespace, str(name))
    if flat not in offered:
        raise BadRequest(
            f"{where} names {str(name)[:80]!r}, which is not among the tools.", fix="Offer it in tools.", param=where
        )
    return flat


def _expect_some(names: set[str]) -> set[str]:
    if not names:
        raise BadRequest(
            "tool_choice wants a call, and no tools are offered.", fix="Offer tools, or send auto.", param="tool_choice"
        )
    return names
