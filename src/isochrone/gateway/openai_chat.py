"""`POST /v1/chat/completions`: OpenAI's chat body to a `Request`, and the place's deltas to chunks or one answer."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta

from isochrone.errors import BadRequest
from isochrone.places.place import Chat, Delta, Message, Prompted, Request, Scored

from .call import Call
from .chunks import ChunkFrame, usage
from .deadlines import deadline_of
from .fields import NUM_TOP_MAX, BodyParser, CommonFields, Refusals, given
from .limits import Limits
from .meter import Meter

if TYPE_CHECKING:
    from .app import Gateway

_LATER = "Remove it: this server answers in plain text only."


class TextPart(msgspec.Struct, tag_field="type", tag="text", forbid_unknown_fields=True):
    """The only kind of content part that a text model reads."""

    text: str


class ChatMessage(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[TextPart] | None = None
    name: Annotated[str, Meta(max_length=256)] | None = None
    refusal: str | None = None
    audio: Any = UNSET
    tool_calls: Any = UNSET
    tool_call_id: Any = UNSET
    function_call: Any = UNSET


class ChatFields(CommonFields, kw_only=True, forbid_unknown_fields=True):
    """OpenAI's chat body.  `metadata`, `store`, `safety_identifier`, `prompt_cache_key`, `prompt_cache_retention` are
    accepted and change nothing: nothing is stored, and prefixes are shared within a key anyway."""

    messages: Annotated[list[ChatMessage], Meta(min_length=1)]
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=NUM_TOP_MAX)] | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    add_generation_prompt: bool | None = None
    audio: Any = UNSET
    function_call: Any = UNSET
    functions: Any = UNSET
    modalities: Any = UNSET
    moderation: Any = UNSET
    parallel_tool_calls: Any = UNSET
    prediction: Any = UNSET
    prompt_cache_options: Any = UNSET
    reasoning_effort: Any = UNSET
    response_format: Any = UNSET
    service_tier: Any = UNSET
    tool_choice: Any = UNSET
    tools: Any = UNSET
    verbosity: Any = UNSET
    web_search_options: Any = UNSET


REFUSED: Refusals = {
    "audio": ((), _LATER),
    "function_call": (("none",), _LATER),
    "functions": (([],), _LATER),
    "modalities": ((["text"],), 'Remove it, or send ["text"].'),
    "moderation": ((), "Remove it: this server does not moderate."),
    "parallel_tool_calls": ((True, False), _LATER),
    "prediction": ((), "Remove it: it would not make the answer faster here."),
    "prompt_cache_options": ((), "Remove it: prefixes are cached for as long as memory allows."),
    "reasoning_effort": ((), "Remove it: say in the prompt how much the model should reason."),
    "response_format": (({"type": "text"},), 'Remove it, or send {"type": "text"}; ask for JSON in the prompt.'),
    "service_tier": (("auto", "default"), "Remove it, and send x-deadline-ms when the answer is urgent."),
    "tool_choice": (("none", "auto"), _LATER),
    "tools": (([],), _LATER),
    "verbosity": (("medium",), "Remove it: say in the prompt how long the answer should be."),
    "web_search_options": ((), _LATER),
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
        prompt=Chat(messages_of(fields.messages), given(fields.add_generation_prompt, True)),
        max_tokens=given(fields.max_completion_tokens, fields.max_tokens),
        n=given(fields.n, 1),
        sampling=fields.sampling(),
        stops=fields.stops(),
        stop_token_ids=tuple(fields.stop_token_ids or ()),
        ignore_eos=bool(fields.ignore_eos),
        num_top=(fields.top_logprobs or 0) if fields.logprobs else None,
        dated=dated,
    )


def messages_of(messages: list[ChatMessage]) -> tuple[Message, ...]:
    """The turns as templates know them.  Raises BadRequest for what only a model with tools or ears could read."""
    return tuple(_message(message, f"messages[{index}]") for index, message in enumerate(messages))


def _message(message: ChatMessage, where: str) -> Message:
    if message.role in ("tool", "function"):
        raise BadRequest(
            f"{where} has the role {message.role}, and this server has no tools.",
            fix="Send the result as a user message.", param=f"{where}.role",
        )  # fmt: skip
    for name in ("audio", "tool_calls", "tool_call_id", "function_call"):
        if getattr(message, name) not in (UNSET, None, []):
            raise BadRequest(f"{where}.{name} is not supported by this server.", fix=_LATER, param=f"{where}.{name}")
    content = message.content if message.content is not None else message.refusal
    if content is None:
        raise BadRequest(f"{where} has no content.", fix="Give it a text.", param=f"{where}.content")
    text = content if isinstance(content, str) else "".join(part.text for part in content)
    # Open models were trained with `system`; `developer` is the newer name of the same role.
    return Message("system" if message.role == "developer" else message.role, text, message.name)


async def answer(gateway: Gateway, call: Call) -> None:
    """Handle the route."""
    fields: ChatFields = PARSER.parse(await call.body())
    gateway.expect_model(fields.model)
    deadline, dated = deadline_of(call)
    request = to_request(fields, id=call.id, tenant=call.tenant, limits=gateway.limits, dated=dated)
    work = _streamed if fields.stream else _whole
    await gateway.generate(
        call, lambda meter: work(call, fields, gateway.place.complete(request, deadline), request, meter)
    )


Events = AsyncGenerator[Prompted | Delta, None]


async def _streamed(call: Call, fields: ChatFields, events: Events, request: Request, meter: Meter) -> None:
    with_usage = fields.wants_usage()
    stream = ChatStream(_new_id(), request, with_usage=with_usage, padded=fields.wants_padding())
    async with aclosing(events):
        async for event in events:
            meter.push(event, time.monotonic())
            if chunks := stream.push(event):
                await call.stream(chunks)
    await call.end_stream(stream.usage(*meter.counts) if with_usage else b"")


async def _whole(call: Call, fields: ChatFields, events: Events, request: Request, meter: Meter) -> None:
    answer = ChatAnswer(_new_id(), request)
    async with aclosing(events):
        async for event in events:
            meter.push(event, time.monotonic())
            answer.push(event)
    await call.respond(answer.body(*meter.counts))


class ChatStream:
    """Deltas to chunks: one `push` is one send, whatever it holds."""

    def __init__(self, id: str, request: Request, *, with_usage: bool = False, padded: bool = False) -> None:
        head = _head(id, "chat.completion.chunk", request.model)
        self._frame = ChunkFrame(head, with_usage=with_usage, padded=padded)
        self._opened: set[int] = set()
        self._with_logprobs = request.num_top is not None

    def push(self, event: Prompted | Delta) -> bytes:
        """The events for one delta; nothing for what has no text and ends nothing."""
        if isinstance(event, Prompted):
            return b""
        opening = b""
        if event.index not in self._opened:
            self._opened.add(event.index)
            opening = self._frame.choice(event.index, b'"delta":{"role":"assistant","content":""}', b"null", None)
        if not (event.text or event.scored or event.finish_reason):
            return opening
        delta = b'"delta":{}'
        if event.text or event.scored:
            delta = b'"delta":{"content":%s}' % msgspec.json.encode(event.text)
        logprobs = msgspec.json.encode(_logprobs(event.scored)) if self._with_logprobs and event.scored else b"null"
        return opening + self._frame.choice(event.index, delta, logprobs, event.finish_reason)

    def usage(self, num_prompt: int, num_cached: int, num_answer: int) -> bytes:
        return self._frame.usage(num_prompt, num_cached, num_answer)


class ChatAnswer:
    """Deltas to one body."""

    def __init__(self, id: str, request: Request) -> None:
        self._head = _head(id, "chat.completion", request.model)
        self._texts: list[list[str]] = [[] for _ in range(request.n)]
        self._scored: list[list[Scored]] = [[] for _ in range(request.n)]
        self._reasons: list[str | None] = [None] * request.n
        self._with_logprobs = request.num_top is not None

    def push(self, event: Prompted | Delta) -> None:
        if isinstance(event, Delta):
            self._texts[event.index].append(event.text)
            self._scored[event.index].extend(event.scored)
            self._reasons[event.index] = event.finish_reason

    def body(self, num_prompt: int, num_cached: int, num_answer: int) -> bytes:
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": "".join(texts), "refusal": None},
                "logprobs": _logprobs(scored) if self._with_logprobs else None,
                "finish_reason": reason,
            }
            for index, (texts, scored, reason) in enumerate(zip(self._texts, self._scored, self._reasons, strict=True))
        ]
        return msgspec.json.encode(
            {**self._head, "choices": choices, "usage": usage(num_prompt, num_cached, num_answer)}
        )


def _new_id() -> str:
    return f"chatcmpl-{uuid.uuid4().hex}"


def _head(id: str, kind: str, model: str) -> dict[str, Any]:
    return {"id": id, "object": kind, "created": int(time.time()), "model": model}


def _logprobs(scored: tuple[Scored, ...] | list[Scored]) -> dict[str, Any]:
    return {"content": [_scored(token) for token in scored], "refusal": None}


def _scored(token: Scored) -> dict[str, Any]:
    top = [{"token": text, "logprob": logprob, "bytes": list(raw)} for text, raw, logprob in token.top]
    return {"token": token.text, "logprob": token.logprob, "bytes": list(token.raw), "top_logprobs": top}
