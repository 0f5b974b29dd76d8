"""The turns of OpenAI's chat body, read into the messages that templates lay out."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta

from isochrone.errors import BadRequest
from isochrone.places.place import Message, ToolCall

Name: TypeAlias = Annotated[str, Meta(max_length=256)]


class TextPart(msgspec.Struct, tag_field="type", tag="text", forbid_unknown_fields=True):
    """The only kind of content part that a text model reads, beside what it once refused to say.

    prompt_cache_breakpoint  accepted: every block of a prompt can be found again, wherever it ends
    """

    text: str
    prompt_cache_breakpoint: Any = None


class RefusalPart(msgspec.Struct, tag_field="type", tag="refusal", forbid_unknown_fields=True):
    refusal: str


class CalledFunction(msgspec.Struct, forbid_unknown_fields=True):
    name: Name
    arguments: str


class CallOfTool(msgspec.Struct, tag_field="type", tag="function", kw_only=True, forbid_unknown_fields=True):
    """index  is sent back by clients that gather a stream's chunks"""

    id: Name
    function: CalledFunction
    index: int | None = None


class ChatMessage(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A turn.  reasoning_content, reasoning  what an assistant thought, as this and other open servers give it"""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[TextPart | RefusalPart] | None = None
    name: Name | None = None
    refusal: str | None = None
    tool_calls: list[CallOfTool] | None = None
    tool_call_id: Name | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    annotations: list[Any] | None = None
    audio: Any = UNSET
    function_call: Any = UNSET


def messages_of(messages: list[ChatMessage]) -> tuple[Message, ...]:
    """The turns as templates know them.  Raises BadRequest, which names the turn."""
    names = {call.id: call.function.name for message in messages for call in message.tool_calls or ()}
    return tuple(_message(message, f"messages[{index}]", names) for index, message in enumerate(messages))


def _message(message: ChatMessage, where: str, names: dict[str, str]) -> Message:
    for name in ("audio", "function_call"):
        if getattr(message, name) not in (UNSET, None):
            instead = "Send text." if name == "audio" else "Send tool_calls, which have taken its place."
            raise BadRequest(f"{where}.{name} is not supported by this server.", fix=instead, param=f"{where}.{name}")
    _expect_in_role(message, where)
    calls = tuple(ToolCall(call.id, call.function.name, call.function.arguments) for call in message.tool_calls or ())
    content = message.content if message.content is not None else message.refusal
    if content is None and not calls:
        raise BadRequest(f"{where} has no content.", fix="Give it a text.", param=f"{where}.content")
    if message.role in ("tool", "function"):
        of = message.name or names.get(message.tool_call_id or "")
        return Message("tool", _text(content), of, tool_call_id=message.tool_call_id)
    # Open models were trained with `system`; `developer` is the newer name of the same role.
    role = "system" if message.role == "developer" else message.role
    reasoning = message.reasoning_content or message.reasoning or ""
    return Message(role, _text(content), message.name, calls, reasoning=reasoning)


def _expect_in_role(message: ChatMessage, where: str) -> None:
    """What belongs to one role only must not be dropped in another."""
    if message.role == "tool" and not message.tool_call_id:
        raise BadRequest(
            f"{where} has the role tool, but no tool_call_id.",
            fix="Send the id of the call that it answers.", param=f"{where}.tool_call_id",
        )  # fmt: skip
    owners = {
        "tool_calls": "assistant", "tool_call_id": "tool", "reasoning_content": "assistant", "reasoning": "assistant",
        "refusal": "assistant",
    }  # fmt: skip
    for name, role in owners.items():
        if getattr(message, name) and message.role != role:
            raise BadRequest(
                f"{where}.{name} does not belong to the role {message.role}.",
                fix=f"Send it with the role {role}, or leave it out.", param=f"{where}.{name}",
            )  # fmt: skip


def _text(content: str | list[TextPart | RefusalPart] | None) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part.text if isinstance(part, TextPart) else part.refusal for part in content)
