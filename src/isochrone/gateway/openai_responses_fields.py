"""The body of `POST /v1/responses`: its fields and bounds, and what each of them does here.

Three tables say it, and the reference page is printed from them: a field is honoured, accepted because there is
nothing here that it could change, or refused by name.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta

from isochrone.errors import BadRequest
from isochrone.places.place import Format

from . import openai_tables
from .fields import NUM_TOP_MAX, BodyParser, OwnFields, Refusals
from .openai_tools import ANY_OBJECT, format_of

Effort: TypeAlias = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
Include: TypeAlias = Literal[
    "file_search_call.results", "web_search_call.results", "web_search_call.action.sources",
    "message.input_image.image_url", "computer_call_output.output.image_url", "code_interpreter_call.outputs",
    "reasoning.encrypted_content", "message.output_text.logprobs",
]  # fmt: skip
Metadata: TypeAlias = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]], Meta(max_length=16)
]
Identifier: TypeAlias = Annotated[str, Meta(max_length=512)]
PIN_S = {"30m": 1800.0, "12h": 43_200.0}
_EFFORT_OF_TEMPLATES = {"minimal": "low", "xhigh": "high", "max": "high"}


class PlainFormat(msgspec.Struct, tag_field="type", tag="text", forbid_unknown_fields=True):
    """Text as it comes."""


class JsonObjectFormat(msgspec.Struct, tag_field="type", tag="json_object", forbid_unknown_fields=True):
    """Any JSON object."""


class JsonSchemaFormat(
    msgspec.Struct, tag_field="type", tag="json_schema", kw_only=True, forbid_unknown_fields=True
):
    """JSON that fits a schema, always: `strict` changes nothing, since the model is held to the schema either way."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None


class TextConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    format: PlainFormat | JsonObjectFormat | JsonSchemaFormat | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class Reasoning(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """effort  given to the model's template, where that knows such a thing;  context: which turns' thoughts are read"""

    effort: Effort | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None
    mode: str | None = None
    context: Literal["auto", "current_turn", "all_turns"] | None = None


class CacheOptions(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """ttl  how long at least the prompt stays cached"""

    ttl: Literal["30m", "12h"] | None = None
    mode: Literal["implicit", "explicit"] | None = None
    prewarm: bool | None = None
    comparison_response_id: str | None = None


class ResponseFields(OwnFields, kw_only=True, forbid_unknown_fields=True):
    """The body.  `input` and `tools` are read item by item, so that an error can say which; what other bodies of this
    server take beyond OpenAI's fields is taken here too."""

    input: str | list[dict[str, Any]] | None = None
    instructions: str | None = None
    parallel_tool_calls: bool | None = None
    previous_response_id: Identifier | None = None
    reasoning: Reasoning | None = None
    text: TextConfig | None = None
    tool_choice: str | dict[str, Any] | None = None
    tools: Annotated[list[dict[str, Any]], Meta(max_length=512)] | None = None
    truncation: Literal["auto", "disabled"] | None = None
    background: bool | None = None
    include: list[Include] | None = None
    max_output_tokens: Annotated[int, Meta(ge=1)] | None = None
    max_tool_calls: Annotated[int, Meta(ge=0)] | None = None
    metadata: Metadata | None = None
    prompt_cache_key: Identifier | None = None
    prompt_cache_options: CacheOptions | None = None
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None
    safety_identifier: Identifier | None = None
    service_tier: str | None = None
    store: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=NUM_TOP_MAX)] | None = None
    client_metadata: dict[str, Any] | None = None
    access_programs: Any = UNSET
    background_options: Any = UNSET
    context_management: Any = UNSET
    conversation: Any = UNSET
    image: Any = UNSET
    moderation: Any = UNSET
    prompt: Any = UNSET

    def num_top(self) -> int | None:
        """How many alternatives to score; None for no scores."""
        if self.top_logprobs or "message.output_text.logprobs" in (self.include or ()):
            return self.top_logprobs or 0
        return None

    def pin_s(self) -> float | None:
        """Seconds for which the prompt must stay cached, the longest that is asked for."""
        ttl = self.prompt_cache_options.ttl if self.prompt_cache_options else None
        return max(PIN_S.get(ttl or "", 0.0), super().pin_s() or 0.0) or None

    def is_stored(self) -> bool:
        return self.store is not False

    def format(self) -> Format | None:
        """What the text must be.  Raises BadRequest when that is said twice."""
        wanted = self.text.format if self.text else None
        if isinstance(wanted, PlainFormat | None):
            return format_of(None, self.structured_outputs)
        if self.structured_outputs is not None:
            raise BadRequest(
                "text.format and structured_outputs are both given.", fix="Send one.", param="structured_outputs"
            )
        if isinstance(wanted, JsonSchemaFormat):
            return Format("json_schema", msgspec.json.encode(wanted.schema).decode())
        return Format("json_schema", ANY_OBJECT)

    def template_variables(self) -> dict[str, Any]:
        """The names under which templates ask how much to think."""
        if self.reasoning is None or self.reasoning.effort is None:
            return {}
        effort = self.reasoning.effort
        if effort == "none":
            return {"enable_thinking": False}
        return {"enable_thinking": True, "reasoning_effort": _EFFORT_OF_TEMPLATES.get(effort, effort)}


_SEND_ALL = "Remove it, and use previous_response_id or send the whole input."
REFUSED: Refusals = {
    "access_programs": ((), "Remove it: there are no access programs here."),
    "background_options": (({"completion_window": "soonest"}, {}), "Remove it: a background response starts at once."),
    "context_management": (([],), "Remove it, and shorten the input yourself."),
    "conversation": ((), _SEND_ALL),
    "image": (({"context_compression": "auto"}, {}), "Remove it: the models here read text only."),
    "moderation": ((), "Remove it: this server does not moderate."),
    "n": ((1,), "Ask several times: a response is one answer."),
    "prompt": ((), "Send the prompt itself, as instructions and input: no prompts are stored here."),
    "service_tier": (("auto", "default"), "Remove it, and state a deadline when the answer is urgent."),
    "truncation": (("disabled",), "Leave out the oldest items yourself."),
}
ACCEPTED: dict[str, str] = {
    "client_metadata": "a note of the client to itself",
    "max_tool_calls": "counts calls of tools that a server runs; here the caller runs all of them",
    "prompt_cache_key": "echoed; prefixes are shared within an API key anyway",
    "prompt_cache_retention": "echoed; a longest time, and nothing here is kept longer",
    "safety_identifier": "echoed",
    "user": "echoed",
}
HONOURED: dict[str, str] = {
    "background": "runs on after the answer to this request; needs `store`, and no `stream`: ask for it by its id",
    "include": "`message.output_text.logprobs`; `reasoning.encrypted_content` is accepted, since the reasoning is in "
    "the item in the open; the others are of tools that do not run here",
    "input": "a text, or items: `message` (text parts only), `function_call`, `function_call_output`, "
    "`custom_tool_call`, `custom_tool_call_output`, `reasoning`, `item_reference`",
    "instructions": "a system message before everything else; not carried over from a previous response",
    "max_output_tokens": "reasoning included; 1 or more",
    "metadata": "kept with the response; up to 16 texts",
    "model": "must be one that `/v1/models` lists",
    "parallel_tool_calls": "false: one call an answer",
    "previous_response_id": "its input and output come before this input, and so on back",
    "prompt_cache_options": "`ttl` pins the prompt in the cache; `mode` `implicit` only; "
    "`prewarm` and `comparison_response_id` are refused",
    "reasoning": "`effort` goes to the model's template; `context`; `summary` `auto` (the reasoning itself comes, "
    "never a summary); `mode` `standard` only",
    "store": "true unless sent false; kept for 30 days",
    "stream": "server-sent events with `sequence_number`",
    "stream_options": "`include_obfuscation`, off unless asked for",
    "temperature": "0 to 2",
    "text": "`format`: `text`, `json_object`, `json_schema`; `verbosity` `medium` only",
    "tool_choice": "`none`, `auto`, `required`, a function, a custom tool, `allowed_tools`",
    "tools": "`function`, `custom` (text), `namespace`; of hosted tools, some are left out and some refused: see below",
    "top_logprobs": "0 to 20",
    "top_p": "0 to 1",
}
OWN: dict[str, str] = openai_tables.OWN | {
    name: openai_tables.CHAT[name]
    for name in ("frequency_penalty", "presence_penalty", "logit_bias", "seed", "stop")
}  # of the older bodies, and useful here too
PARSER = BodyParser(ResponseFields, REFUSED)


def expect_honoured(fields: ResponseFields) -> None:
    """Raises BadRequest for values within a field that cannot be honoured, by name."""
    if fields.text and fields.text.verbosity not in (None, "medium"):
        raise refusal("text.verbosity", "Remove it: say in the instructions how long the answer should be.")
    if reasoning := fields.reasoning:
        if reasoning.mode not in (None, "standard"):
            raise refusal("reasoning.mode", "Remove it, or send standard.")
        for name in ("summary", "generate_summary"):
            if getattr(reasoning, name) not in (None, "auto"):
                raise refusal(f"reasoning.{name}", "Send auto: the reasoning itself is in the response, not a summary.")
    _expect_ways(fields)
    _expect_cache(fields.prompt_cache_options)


def _expect_ways(fields: ResponseFields) -> None:
    if not fields.background:
        return
    if not fields.is_stored():
        raise BadRequest(
            "background is true and store is false, so that nobody could fetch the answer.",
            fix="Leave store out, or background.", param="store",
        )  # fmt: skip
    if fields.stream:
        raise BadRequest(
            "stream and background together are not supported by this server.",
            fix="Remove one of them; a background response is fetched by its id.", param="background",
        )  # fmt: skip


def _expect_cache(options: CacheOptions | None) -> None:
    if options is None:
        return
    if options.mode == "explicit":
        raise refusal("prompt_cache_options.mode", "Send implicit: every prompt is cached from its start.")
    if options.prewarm:
        raise refusal("prompt_cache_options.prewarm", "Ask for one token with max_output_tokens instead.")
    if options.comparison_response_id:
        raise refusal("prompt_cache_options.comparison_response_id", "Remove it: usage says what the cache held.")


def refusal(name: str, instead: str) -> BadRequest:
    """The error for what is documented and not offered."""
    return BadRequest(f"{name} is not supported by this server.", fix=instead, param=name)
