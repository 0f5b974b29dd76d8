"""OpenAI's chat body: its fields, their bounds, and how they become a `Request`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta

from isochrone.errors import BadRequest
from isochrone.places.place import Chat, Request

from .fields import NUM_TOP_MAX, BodyParser, OwnFields, Refusals, given
from .limits import Limits
from .openai_messages import ChatMessage, messages_of
from .openai_tools import FunctionTool, ResponseFormat, chosen, format_of, tools_of

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
_EFFORT_OF_TEMPLATES = {"minimal": "low", "xhigh": "high", "max": "high"}
_LATER = "Remove it: this server answers in plain text only."


class ChatFields(OwnFields, kw_only=True, forbid_unknown_fields=True):
    """The body."""

    messages: Annotated[list[ChatMessage], Meta(min_length=1)]
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=NUM_TOP_MAX)] | None = None
    tools: list[FunctionTool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: Effort | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    add_generation_prompt: bool | None = None
    chat_template_kwargs: Annotated[dict[str, Any], Meta(max_length=32)] | None = None
    audio: Any = UNSET
    function_call: Any = UNSET
    functions: Any = UNSET
    modalities: Any = UNSET
    moderation: Any = UNSET
    prediction: Any = UNSET
    prompt_cache_options: Any = UNSET
    service_tier: Any = UNSET
    verbosity: Any = UNSET
    web_search_options: Any = UNSET

    def template_variables(self) -> dict[str, Any]:
        """The names under which templates ask how much to think, and what the caller adds."""
        effort = self.reasoning_effort
        thinking: dict[str, Any] = {} if effort is None else {"enable_thinking": effort != "none"}
        if effort is not None and effort != "none":
            thinking["reasoning_effort"] = _EFFORT_OF_TEMPLATES.get(effort, effort)
        return thinking | (self.chat_template_kwargs or {})


REFUSED: Refusals = {
    "audio": ((), _LATER),
    "function_call": (("none",), "Send tool_choice, which has taken its place."),
    "functions": (([],), "Send tools, which have taken their place."),
    "modalities": ((["text"],), 'Remove it, or send ["text"].'),
    "moderation": ((), "Remove it: this server does not moderate."),
    "prediction": ((), "Remove it: tokens are guessed from the prompt anyway."),
    "prompt_cache_options": ((), 'Remove it; to keep a prompt cached, send "cache": {"pin": true, "ttl": 600}.'),
    "service_tier": (("auto", "default"), "Remove it, and send a budget when the answer is urgent."),
    "verbosity": (("medium",), "Remove it: say in the prompt how long the answer should be."),
    "web_search_options": ((), "Remove it: this server does not search; offer a tool that does."),
}
PARSER = BodyParser(ChatFields, REFUSED)


def to_request(fields: ChatFields, *, id: str, tenant: str, limits: Limits, dated: bool = False) -> Request:
    """The body as a request.  Raises BadRequest, which names the field."""
    if len(fields.messages) > limits.num_messages:
        raise BadRequest(
            f"There are {len(fields.messages)} messages, and this server takes {limits.num_messages}.",
            fix="Leave out or sum up the oldest.", param="messages",
        )  # fmt: skip
    if given(fields.n, 1) > limits.num_answers:
        raise BadRequest(
            f"n is {fields.n}, and this server gives {limits.num_answers} answers at once.",
            fix="Ask several times.", param="n",
        )  # fmt: skip
    if fields.top_logprobs and not fields.logprobs:
        raise BadRequest(
            "top_logprobs is given, but logprobs is not true.", fix="Set logprobs, or remove it.", param="top_logprobs"
        )
    return Request(
        id=id,
        model=fields.model,
        tenant=tenant,
        prompt=chat_of(fields),
        max_tokens=given(fields.max_completion_tokens, fields.max_tokens),
        n=given(fields.n, 1),
        sampling=fields.sampling(),
        stops=fields.stops(),
        stop_token_ids=tuple(fields.stop_token_ids or ()),
        ignore_eos=bool(fields.ignore_eos),
        num_top=(fields.top_logprobs or 0) if fields.logprobs else None,
        dated=dated,
        format=format_of(fields.response_format, fields.structured_outputs),
        drafts=given(fields.drafts, True),
        pin_s=fields.pin_s(),
    )


def chat_of(fields: ChatFields) -> Chat:
    """The conversation with what may be called in it.  Raises BadRequest."""
    tools, choice = chosen(tools_of(fields.tools), fields.tool_choice)
    return Chat(
        messages_of(fields.messages),
        given(fields.add_generation_prompt, True),
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=given(fields.parallel_tool_calls, True),
        template_variables=fields.template_variables(),
    )
