"""Items of the Responses API to the turns of a conversation.

An item is a message, a call of a tool, what a tool gave, or a thought; what one assistant's turn holds comes as
several items in a row and becomes one `Message`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import Meta

from isochrone.errors import BadRequest
from isochrone.places.place import Message, ToolCall

from .openai_responses_fields import Identifier, refusal

Item: TypeAlias = dict[str, Any]
T = TypeVar("T")


class CacheBreakpoint(msgspec.Struct, kw_only=True):
    mode: Literal["explicit"] = "explicit"
    ttl: Literal["30m", "12h"] | None = None


class InputText(msgspec.Struct, tag_field="type", tag="input_text", kw_only=True):
    text: str
    prompt_cache_breakpoint: CacheBreakpoint | None = None


class OutputText(msgspec.Struct, tag_field="type", tag="output_text"):
    text: str


class RefusalText(msgspec.Struct, tag_field="type", tag="refusal"):
    refusal: str


class SummaryText(msgspec.Struct, tag_field="type", tag="summary_text"):
    text: str


class ReasoningText(msgspec.Struct, tag_field="type", tag="reasoning_text"):
    text: str


class MessageItem(msgspec.Struct, tag_field="type", tag="message", kw_only=True):
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[InputText | OutputText | RefusalText]


class FunctionCall(msgspec.Struct, tag_field="type", tag="function_call", kw_only=True):
    call_id: Identifier
    name: Identifier
    arguments: str
    namespace: Identifier | None = None


class FunctionCallOutput(msgspec.Struct, tag_field="type", tag="function_call_output", kw_only=True):
    call_id: Identifier
    output: str | list[InputText]


class CustomToolCall(msgspec.Struct, tag_field="type", tag="custom_tool_call", kw_only=True):
    call_id: Identifier
    name: Identifier
    input: str
    namespace: Identifier | None = None


class CustomToolCallOutput(msgspec.Struct, tag_field="type", tag="custom_tool_call_output", kw_only=True):
    call_id: Identifier
    output: str | list[InputText]


class ReasoningItem(msgspec.Struct, tag_field="type", tag="reasoning", kw_only=True):
    """What only its maker can read (`encrypted_content` without `content`) is left out."""

    summary: list[SummaryText] = []
    content: list[ReasoningText] | None = None


class ItemReference(msgspec.Struct, tag_field="type", tag="item_reference"):
    id: Annotated[str, Meta(max_length=256)]


Read: TypeAlias = (
    MessageItem | FunctionCall | FunctionCallOutput | CustomToolCall | CustomToolCallOutput | ReasoningItem
)
KINDS: dict[str, type[Read | ItemReference]] = {
    "message": MessageItem,
    "function_call": FunctionCall,
    "function_call_output": FunctionCallOutput,
    "custom_tool_call": CustomToolCall,
    "custom_tool_call_output": CustomToolCallOutput,
    "reasoning": ReasoningItem,
    "item_reference": ItemReference,
}
LEFT_OUT = frozenset({
    "web_search_call", "file_search_call", "image_generation_call", "code_interpreter_call", "tool_search_call",
    "tool_search_output", "mcp_list_tools",
})  # fmt: skip
"""Records of what another server's tools did; what came of it is in that server's messages."""
REFUSED_KINDS = frozenset({
    "computer_call", "computer_call_output", "local_shell_call", "local_shell_call_output", "shell_call",
    "shell_call_output", "apply_patch_call", "apply_patch_call_output", "mcp_call", "mcp_approval_request",
    "mcp_approval_response", "compaction", "compaction_trigger", "additional_tools", "configuration_update", "program",
    "program_output",
})  # fmt: skip
"""What the model would have to know of, and cannot: its content is another server's, or for tools not offered here."""


def kind_of(item: Item) -> str:
    """The item's type; messages and references may leave it out."""
    kind = item.get("type")
    if kind is None:
        return "item_reference" if "role" not in item and "id" in item else "message"
    return kind if isinstance(kind, str) else repr(kind)


def items_of(given: str | list[Item] | None) -> list[Item]:
    """The input as items."""
    if isinstance(given, str):
        return [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": given}]}]
    return [item | {"type": kind_of(item)} for item in given or ()]


def read(item: Item, where: str) -> Read | ItemReference | None:
    """One item; None for what is left out.  Raises BadRequest, which names its place in the input."""
    kind = kind_of(item)
    if kind in LEFT_OUT:
        return None
    if kind in REFUSED_KINDS:
        raise BadRequest(
            f"{where} is of type {kind}, which is not supported by this server.",
            fix="Leave it out, or say in a message what it holds.", param=f"{where}.type",
        )  # fmt: skip
    if kind not in KINDS:
        known = ", ".join(KINDS)
        raise BadRequest(
            f"{where} is of type {kind[:80]}, which this server does not know.",
            fix=f"Send one of {known}.", param=f"{where}.type",
        )  # fmt: skip
    return convert(item, KINDS[kind], where)


def convert(value: Any, kind: type[T], where: str) -> T:
    """The value as its type.  Raises BadRequest, which names where in the body it stands."""
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        from .validation import from_validation

        raise from_validation(_placed(error, where), ()) from None


def _placed(error: Exception, where: str) -> Exception:
    text = str(error)
    if not isinstance(error, msgspec.ValidationError):
        return error
    at = text.rfind("`$")
    text = f"{text} - at `$.{where}`" if at < 0 else f"{text[:at]}`$.{where}{text[at + 2 :]}"
    return msgspec.ValidationError(text)


def turns(items: Iterable[tuple[str, Item]]) -> tuple[Message, ...]:
    """The conversation.  items  (where it stands in the body, the item), without references

    Raises BadRequest, for an output whose call is missing too.
    """
    return tuple(_Turns().read(items))


class _Turns:
    def __init__(self) -> None:
        self._names: dict[str, str] = {}  # of calls, by id
        self._thought, self._content = "", ""
        self._calls: list[ToolCall] = []

    def read(self, items: Iterable[tuple[str, Item]]) -> Iterator[Message]:
        for where, item in items:
            match read(item, where):
                case None:
                    continue
                case ReasoningItem() as thought:
                    if self._content or self._calls:
                        yield from self._assistant()
                    self._thought += "".join(part.text for part in thought.content or thought.summary)
                case MessageItem(role="assistant") as message:
                    if self._content or self._calls:
                        yield from self._assistant()
                    self._content = text_of(message.content)
                case FunctionCall() as call:
                    self._call(call.call_id, flat_name(call.namespace, call.name), call.arguments)
                case CustomToolCall() as call:
                    arguments = msgspec.json.encode({"input": call.input}).decode()
                    self._call(call.call_id, flat_name(call.namespace, call.name), arguments)
                case FunctionCallOutput() | CustomToolCallOutput() as result:
                    yield from self._assistant()
                    name = self._expect_call(result.call_id, where)
                    yield Message("tool", text_of(result.output), name=name, tool_call_id=result.call_id)
                case MessageItem() as message:
                    yield from self._assistant()
                    role = "system" if message.role == "developer" else message.role  # the newer name of the same
                    yield Message(role, text_of(message.content))
                case ItemReference():
                    raise refusal(where, "Send the item itself.")
        yield from self._assistant()

    def _call(self, id: str, name: str, arguments: str) -> None:
        self._names[id] = name
        self._calls.append(ToolCall(id, name, arguments))

    def _expect_call(self, id: str, where: str) -> str:
        if id not in self._names:
            raise BadRequest(
                f"{where} answers the call {id[:80]!r}, and no call of that id comes before it.",
                fix="Send the call too, or name the response that made it in previous_response_id.",
                param=f"{where}.call_id",
            )
        return self._names[id]

    def _assistant(self) -> Iterator[Message]:
        if self._thought or self._content or self._calls:
            yield Message(
                "assistant", self._content, tool_calls=tuple(self._calls), reasoning=self._thought
            )  # fmt: skip
        self._thought, self._content, self._calls = "", "", []


def without_old_thoughts(items: list[tuple[str, Item]]) -> list[tuple[str, Item]]:
    """The items without the thoughts of earlier turns: those before the last message of a user."""
    last = max((at for at, (_, item) in enumerate(items) if item.get("role") == "user"), default=0)
    return [pair for at, pair in enumerate(items) if at > last or kind_of(pair[1]) != "reasoning"]


def flat_name(namespace: str | None, name: str) -> str:
    """How the model knows a tool of a namespace."""
    return f"{namespace}__{name}" if namespace else name


def text_of(content: str | Iterable[InputText | OutputText | RefusalText]) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.refusal if isinstance(part, RefusalText) else part.text for part in content)


def pin_s_of(items: Iterable[Item]) -> float:
    """The longest time for which a cache breakpoint in the items asks; 0 without one."""
    longest = 0.0
    for item in items:
        parts = item.get("content")
        for part in parts if isinstance(parts, list) else ():
            mark = part.get("prompt_cache_breakpoint") if isinstance(part, dict) else None
            if isinstance(mark, dict):
                longest = max(longest, 43_200.0 if mark.get("ttl") == "12h" else 1_800.0)
    return longest
