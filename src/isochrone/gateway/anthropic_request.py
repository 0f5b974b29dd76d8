"""Anthropic's body to a `Request`."""

from __future__ import annotations

from typing import Any

import msgspec

from isochrone.errors import BadRequest
from isochrone.places.place import Chat, Format, Message, Request, Sampling, Tool, ToolCall, ToolChoice

from .anthropic_fields import (
    PIN_S,
    AnyChoice,
    AutoChoice,
    ContentBlock,
    CountFields,
    CustomTool,
    MessageFields,
    NamedChoice,
    NoChoice,
    TextBlock,
    ThinkingBlock,
    ThinkingFree,
    ThinkingOff,
    ThinkingOn,
    ToolResultBlock,
    ToolUseBlock,
    Turn,
)
from .fields import given
from .limits import Limits

_EFFORTS = {"xhigh": "high", "max": "high"}  # templates know three


class _Tools(msgspec.Struct):
    tools: list[CustomTool]


def to_request(fields: MessageFields, *, id: str, tenant: str, limits: Limits, dated: bool = False) -> Request:
    """The body as a request.  Raises BadRequest, which names the field."""
    if isinstance(fields.thinking, ThinkingOn) and fields.thinking.budget_tokens >= fields.max_tokens:
        raise BadRequest(
            f"thinking.budget_tokens is {fields.thinking.budget_tokens}, but thoughts and answer together may have "
            f"{fields.max_tokens}: max_tokens.",
            fix="Raise max_tokens, or lower the budget.", param="thinking.budget_tokens",
        )  # fmt: skip
    tools = tools_of(fields.tools)
    return Request(
        id=id,
        model=fields.model,
        tenant=tenant,
        prompt=chat_of(fields, limits, tools),
        max_tokens=fields.max_tokens,
        sampling=Sampling(given(fields.temperature, 1.0), fields.top_k or 0, given(fields.top_p, 1.0)),
        stops=tuple(fields.stop_sequences or ()),
        dated=dated,
        format=_format(fields),
        pin_s=_pin_s(fields, tools),
    )


def chat_of(fields: CountFields, limits: Limits, tools: list[CustomTool]) -> Chat:
    """The conversation as templates know it.  Raises BadRequest."""
    if len(fields.messages) > limits.num_messages:
        raise BadRequest(
            f"There are {len(fields.messages)} messages, and this server takes {limits.num_messages}.",
            fix="Leave out or sum up the oldest.", param="messages",
        )  # fmt: skip
    if fields.messages[-1].role == "assistant":
        raise BadRequest(
            "The last message is the assistant's, and this server does not continue an answer that the caller began.",
            fix="End with a user message; say there how the answer should begin.", param="messages",
        )  # fmt: skip
    choice, in_parallel = _choice(fields, tools)
    return Chat(
        tuple(_messages(fields)),
        tools=tuple(Tool(tool.name, tool.description, tool.input_schema, tool.strict) for tool in tools),
        tool_choice=choice,
        parallel_tool_calls=in_parallel,
        template_variables=_template_variables(fields),
    )


def tools_of(tools: list[dict[str, Any]] | None) -> list[CustomTool]:
    """Raises BadRequest for a tool that the caller does not run itself, by its type."""
    for index, tool in enumerate(tools or ()):
        if (kind := tool.get("type")) not in (None, "custom"):
            raise BadRequest(
                f"tools[{index}] is of the type {str(kind)[:80]!r}, which this server does not run or know.",
                fix="Offer it as a tool of your own, with an input_schema.", param=f"tools[{index}].type",
            )  # fmt: skip
    try:
        return msgspec.convert({"tools": tools or []}, _Tools).tools
    except msgspec.ValidationError as error:
        from .validation import from_validation  # most servers never need it

        raise from_validation(error, ()) from None


def _choice(fields: CountFields, tools: list[CustomTool]) -> tuple[ToolChoice, bool]:
    """(whether to call, whether several at once).  Raises BadRequest."""
    match fields.tool_choice:
        case None:
            return ToolChoice(), True
        case NoChoice():
            return ToolChoice("none"), True
        case AutoChoice(disable_parallel_tool_use=alone):
            return ToolChoice(), not alone
    if not tools:
        raise BadRequest(
            "tool_choice wants a tool to be called, and there are no tools.",
            fix="Send tools, or remove it.", param="tool_choice",
        )  # fmt: skip
    match fields.tool_choice:
        case AnyChoice(disable_parallel_tool_use=alone):
            return ToolChoice("required"), not alone
        case NamedChoice(name=name, disable_parallel_tool_use=alone):
            if all(tool.name != name for tool in tools):
                raise BadRequest(
                    f"tool_choice names {name[:80]!r}, and there is no tool of that name.",
                    fix="Name one of the tools.", param="tool_choice.name",
                )  # fmt: skip
            return ToolChoice("required", name), not alone


def _messages(fields: CountFields) -> list[Message]:
    messages = []
    if system := _text(fields.system or ""):
        messages.append(Message("system", system))
    names: dict[str, str] = {}  # of the tools called so far, by the call's id
    for index, turn in enumerate(_joined(fields.messages)):
        where = f"messages[{index}]"
        if turn.role == "assistant":
            messages.append(_assistant(turn, where, names))
        else:
            messages += _results_and_text(turn, where, names)
    return messages


def _joined(turns: list[Turn]) -> list[Turn]:
    """Neighbours of one role are one turn, as Anthropic reads them: many templates insist on turns that alternate."""
    joined: list[Turn] = []
    for turn in turns:
        if joined and joined[-1].role == turn.role:
            joined[-1] = Turn(role=turn.role, content=[*_blocks(joined[-1]), *_blocks(turn)])
        else:
            joined.append(turn)
    return joined


def _assistant(turn: Turn, where: str, names: dict[str, str]) -> Message:
    blocks = _blocks(turn)
    calls = []
    for index, block in enumerate(blocks):
        if isinstance(block, ToolResultBlock):
            raise _misplaced("tool_result", f"{where}.content[{index}]", "user")
        if isinstance(block, ToolUseBlock):
            names[block.id] = block.name
            calls.append(ToolCall(block.id, block.name, msgspec.json.encode(block.input).decode()))
    thoughts = [block.thinking for block in blocks if isinstance(block, ThinkingBlock)]
    return Message("assistant", _text(blocks), tool_calls=tuple(calls), reasoning="\n".join(thoughts))


def _results_and_text(turn: Turn, where: str, names: dict[str, str]) -> list[Message]:
    """A user's turn: what the tools answered, then what the user says."""
    blocks = _blocks(turn)
    messages = []
    for index, block in enumerate(blocks):
        if isinstance(block, ToolUseBlock | ThinkingBlock):
            kind = "tool_use" if isinstance(block, ToolUseBlock) else "thinking"
            raise _misplaced(kind, f"{where}.content[{index}]", "assistant")
        if not isinstance(block, ToolResultBlock):
            continue
        if block.tool_use_id not in names:
            raise BadRequest(
                f"{where}.content[{index}] answers call {block.tool_use_id[:80]!r}, which no message before makes.",
                fix="Send the assistant's message with that tool_use before it.",
                param=f"{where}.content[{index}].tool_use_id",
            )
        said = ("Error: " if block.is_error else "") + _text(block.content)
        messages.append(Message("tool", said, names[block.tool_use_id], tool_call_id=block.tool_use_id))
    text = _text(blocks)
    return messages if messages and not text else [*messages, Message(turn.role, text)]


def _misplaced(kind: str, where: str, role: str) -> BadRequest:
    return BadRequest(
        f"{where} is a {kind} block, which belongs into a message of the role {role}.",
        fix="Move it there.", param=f"{where}.type",
    )  # fmt: skip


def _blocks(turn: Turn) -> list[ContentBlock]:
    return [TextBlock(text=turn.content)] if isinstance(turn.content, str) else turn.content


def _text(content: str | list[TextBlock] | list[ContentBlock]) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(block.text for block in content if isinstance(block, TextBlock))


def _template_variables(fields: CountFields) -> dict[str, Any]:
    """The names under which templates ask how much to think."""
    variables: dict[str, Any] = {}
    match fields.thinking:
        case ThinkingOn(budget_tokens=budget):
            variables = {"enable_thinking": True, "thinking_budget": budget}
        case ThinkingFree():
            variables = {"enable_thinking": True}
        case ThinkingOff():
            variables = {"enable_thinking": False}
    effort = fields.output_config.effort if fields.output_config else None
    return variables | ({"reasoning_effort": _EFFORTS.get(effort, effort)} if effort else {})


def _format(fields: CountFields) -> Format | None:
    configured = fields.output_config.format if fields.output_config else None
    if configured is not None and fields.output_format is not None:
        raise BadRequest(
            "output_format and output_config.format are both given.", fix="Send one of them.", param="output_format"
        )
    wanted = configured or fields.output_format
    return Format("json_schema", msgspec.json.encode(wanted.schema).decode()) if wanted else None


def _pin_s(fields: MessageFields, tools: list[CustomTool]) -> float | None:
    marks = [*fields.pins(), *(tool.cache_control for tool in tools if tool.cache_control is not None)]
    return max((PIN_S[mark.ttl] for mark in marks), default=None)
