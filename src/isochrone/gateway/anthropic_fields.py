"""The fields of Anthropic's Messages API: their types and bounds, and what becomes of each of them.

Every documented field is honoured, accepted because ignoring it changes nothing, or refused by name; so is every type
of content block and of tool.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta

from .fields import BodyParser, Refusals, Stop

PIN_S = {None: 300.0, "5m": 300.0, "1h": 3600.0}
"""What a `ttl` means; five minutes where none is given."""


class CacheControl(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Keep the prompt up to here.  The whole prompt is kept: a prefix of it is found in it as well."""

    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None


class Block(msgspec.Struct, kw_only=True, tag_field="type", forbid_unknown_fields=True):
    """A part of a message."""


class TextBlock(Block, tag="text"):
    text: str
    cache_control: CacheControl | None = None
    citations: Annotated[list[Any], Meta(max_length=0)] | None = None


class ThinkingBlock(Block, tag="thinking"):
    """What the model thought in an earlier turn.  signature  not checked: thoughts here are not encrypted"""

    thinking: str
    signature: str = ""


class ToolUseBlock(Block, tag="tool_use"):
    """A call in an earlier turn.  caller  who asked for it; here that is always the model itself"""

    id: str
    name: str
    input: dict[str, Any]
    cache_control: CacheControl | None = None
    caller: dict[str, Any] | None = None
    toolset_name: Annotated[str, Meta(max_length=0)] | None = None


class ToolResultBlock(Block, tag="tool_result"):
    """What a tool answered.  is_error  the model then reads `Error: ` before it"""

    tool_use_id: str
    content: str | list[TextBlock] = ""
    is_error: bool = False
    cache_control: CacheControl | None = None
    toolset_name: Annotated[str, Meta(max_length=0)] | None = None


ContentBlock: TypeAlias = TextBlock | ThinkingBlock | ToolUseBlock | ToolResultBlock


class Turn(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    role: Literal["user", "assistant", "system"]
    content: str | list[ContentBlock]


class CustomTool(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A tool of the caller's.  eager_input_streaming  arguments always stream as they are drawn"""

    name: Annotated[str, Meta(min_length=1, max_length=128)]
    input_schema: dict[str, Any]
    description: str = ""
    type: Literal["custom"] | None = None
    strict: bool = False
    cache_control: CacheControl | None = None
    eager_input_streaming: bool | None = None
    allowed_callers: list[Literal["direct"]] | None = None
    defer_loading: Literal[False] | None = None
    input_examples: Annotated[list[Any], Meta(max_length=0)] | None = None


class Choice(msgspec.Struct, kw_only=True, tag_field="type", forbid_unknown_fields=True):
    """Whether tools are called."""


class AutoChoice(Choice, tag="auto"):
    disable_parallel_tool_use: bool = False


class AnyChoice(Choice, tag="any"):
    disable_parallel_tool_use: bool = False


class NamedChoice(Choice, tag="tool"):
    name: str
    disable_parallel_tool_use: bool = False


class NoChoice(Choice, tag="none"):
    pass


class Thinking(msgspec.Struct, kw_only=True, tag_field="type", forbid_unknown_fields=True):
    """Whether the model thinks before it answers, where its template knows such a thing."""


class ThinkingOn(Thinking, tag="enabled"):
    """budget_tokens  a target, as Anthropic has it: the template is told, and max_tokens is the limit"""

    budget_tokens: Annotated[int, Meta(ge=1)]
    display: Literal["summarized", "omitted"] | None = None


class ThinkingFree(Thinking, tag="adaptive"):
    display: Literal["summarized", "omitted"] | None = None


class ThinkingOff(Thinking, tag="disabled"):
    pass


class SchemaFormat(msgspec.Struct, kw_only=True, tag_field="type", tag="json_schema", forbid_unknown_fields=True):
    schema: dict[str, Any]


class OutputConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """effort  for the model's template, where it knows such a thing;  format: what the text must be"""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: SchemaFormat | None = None


class Metadata(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    user_id: str | None = None


class CountFields(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What the prompt is made of: all that `/v1/messages/count_tokens` takes."""

    model: str
    messages: Annotated[list[Turn], Meta(min_length=1)]
    system: str | list[TextBlock] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: AutoChoice | AnyChoice | NamedChoice | NoChoice | None = None
    thinking: ThinkingOn | ThinkingFree | ThinkingOff | None = None
    cache_control: CacheControl | None = None
    output_config: OutputConfig | None = None
    output_format: SchemaFormat | None = None
    user_profile_id: str | None = None
    compaction: Any = UNSET
    context_management: Any = UNSET
    mcp_servers: Any = UNSET
    speed: Any = UNSET
    thread: Any = UNSET
    workspace_id: Any = UNSET


class MessageFields(CountFields, kw_only=True, forbid_unknown_fields=True):
    """Anthropic's body for `/v1/messages`."""

    max_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    stream: bool | None = None
    stop_sequences: Annotated[list[Stop], Meta(max_length=16)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    metadata: Metadata | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    budget: Any = UNSET
    billing_policy: Any = UNSET
    container: Any = UNSET
    diagnostics: Any = UNSET
    fallback_credit_token: Any = UNSET
    fallbacks: Any = UNSET
    inference_geo: Any = UNSET

    def pins(self) -> Iterator[CacheControl]:
        """Every `cache_control` of the prompt."""
        marks = [self.cache_control]
        marks += [block.cache_control for block in self.system or () if isinstance(block, TextBlock)]
        for turn in self.messages:
            blocks = turn.content if isinstance(turn.content, list) else ()
            marks += [block.cache_control for block in blocks if not isinstance(block, ThinkingBlock)]
        yield from (mark for mark in marks if mark is not None)


COUNT_REFUSED: Refusals = {
    "compaction": ((), "Remove it, and sum up the oldest messages yourself."),
    "context_management": (
        ({"edits": []}, {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}),
        "Remove it, and leave out the oldest messages yourself.",
    ),
    "mcp_servers": (([],), "Remove it, and offer the servers' tools as your own."),
    "speed": (("standard",), "Remove it, and state a deadline (Isochrone-Budget) when the answer is urgent."),
    "thread": ((), "Remove it, and send the whole conversation."),
    "workspace_id": ((), "Remove it: the API key says whose request it is."),
}
REFUSED: Refusals = {
    **COUNT_REFUSED,
    "billing_policy": ((), "Remove it: nothing is billed here."),
    "container": ((), "Remove it: no code runs here."),
    "diagnostics": ((), "Remove it: usage says how much of the prompt the cache held."),
    "fallback_credit_token": ((), "Remove it: nothing is billed here."),
    "fallbacks": (([],), "Remove it: this server answers with the model that is asked."),
    "inference_geo": ((), "Remove it: the model runs where this server does."),
}
ACCEPTED: dict[str, str] = {
    "metadata": "`user_id`: a note of the client to itself",
    "service_tier": "`auto` or `standard_only`: there is one tier",
    "user_profile_id": "a note of the client to itself",
}
HONOURED: dict[str, str] = {
    "budget": "ours: what the caller can wait for, as in `Isochrone-Budget`",
    "cache_control": "pins the prompt for `ttl`, within the tenant's quota; also on blocks and tools",
    "max_tokens": "1 or more; beyond the context it ends there, with `model_context_window_exceeded`",
    "messages": "roles `user`, `assistant`, `system`; blocks `text`, `thinking`, `tool_use`, `tool_result` (of text). "
    "Every other block is refused by its type; an answer cannot be begun by the caller (a last turn of `assistant`)",
    "model": "must be one that `/v1/models` lists",
    "output_config": "`format` (`json_schema`); `effort` goes to the model's template",
    "output_format": "the older place of `output_config.format`",
    "stop_sequences": "up to 16; `stop_sequence` in the answer says which",
    "stream": "server-sent events, `ping` included",
    "system": "a text or text blocks, joined with a line break",
    "temperature": "0 to 1; 1 unless given",
    "thinking": "`enabled`, `adaptive`, `disabled` go to the model's template, and so does `budget_tokens`, a target; "
    "`display`; `between_tools` is refused",
    "tool_choice": "`auto`, `any`, `tool`, `none`, with `disable_parallel_tool_use`",
    "tools": "of type `custom`; the types of tools that Anthropic runs are refused",
    "top_k": "0 is off",
    "top_p": "0 to 1",
}
PARSER = BodyParser(MessageFields, REFUSED)
COUNT_PARSER = BodyParser(CountFields, COUNT_REFUSED)
BLOCKS = ("text", "thinking", "tool_use", "tool_result")
BLOCKS_REFUSED = frozenset({
    "bash_code_execution_tool_result", "code_execution_tool_result", "container_upload", "document", "image",
    "redacted_thinking", "search_result", "server_tool_use", "text_editor_code_execution_tool_result",
    "tool_search_tool_result", "web_fetch_tool_result", "web_search_tool_result",
})  # fmt: skip
"""Types of blocks that a model which reads text, and a server that runs no tools, cannot know of."""
