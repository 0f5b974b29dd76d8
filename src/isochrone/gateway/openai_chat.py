"""`POST /v1/chat/completions`: OpenAI's chat body to a `Request`, and the place's deltas to chunks or one answer."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from isochrone.places.place import Delta, Prompted, Request, Scored, ToolDelta

from .call import Call
from .chunks import ChunkFrame, joined, own_fields, usage
from .deadlines import deadline_of
from .meter import Meter
from .openai_chat_fields import PARSER, REFUSED, ChatFields, to_request

if TYPE_CHECKING:
    from .app import Gateway


async def answer(gateway: Gateway, call: Call) -> None:
    """Handle the route."""
    if gateway.fleet is not None:
        return await gateway.fleet.relay.answer(gateway, call)
    fields: ChatFields = PARSER.parse(await call.body())
    gateway.expect_model(fields.model)
    deadline, dated = deadline_of(call, fields.budget)
    request = to_request(fields, id=call.id, tenant=call.tenant, limits=gateway.limits, dated=dated)
    work = _streamed if fields.stream else _whole
    await gateway.generate(
        call, lambda meter: work(call, fields, gateway.place.complete(request, deadline), request, meter)
    )


Events = AsyncGenerator[Prompted | Delta, None]


async def _streamed(call: Call, fields: ChatFields, events: Events, request: Request, meter: Meter) -> None:
    with_usage = fields.wants_usage()
    stream = ChatStream(new_id(), request, with_usage=with_usage, padded=fields.wants_padding())
    async with aclosing(events):
        async for event in events:
            meter.push(event, time.monotonic())
            if chunks := stream.push(event):
                await call.stream(chunks)
    await call.end_stream(stream.usage(*meter.counts) if with_usage else b"")


async def _whole(call: Call, fields: ChatFields, events: Events, request: Request, meter: Meter) -> None:
    answer = ChatAnswer(new_id(), request)
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
        self._num_reasoning = 0

    def skip_opening(self, index: int) -> None:
        """Somebody else has begun that answer: its role was said."""
        self._opened.add(index)

    def push(self, event: Prompted | Delta) -> bytes:
        """The events for one delta; nothing for what says nothing and ends nothing."""
        if isinstance(event, Prompted):
            return b""
        self._num_reasoning += event.num_reasoning
        opening = b""
        if event.index not in self._opened:
            self._opened.add(event.index)
            opening = self._frame.choice(event.index, b'"delta":{"role":"assistant","content":""}', b"null", None)
        delta = self._delta(event)
        if not (delta or event.finish_reason):
            return opening
        logprobs = msgspec.json.encode(_logprobs(event.scored)) if self._with_logprobs and event.scored else b"null"
        own = own_fields(event) if event.finish_reason else None
        content = b'"delta":%s' % msgspec.json.encode(delta)
        return opening + self._frame.choice(event.index, content, logprobs, event.finish_reason, own)

    def usage(self, num_prompt: int, num_cached: int, num_answer: int) -> bytes:
        return self._frame.usage(num_prompt, num_cached, num_answer, self._num_reasoning)

    def _delta(self, event: Delta) -> dict[str, Any]:
        delta: dict[str, Any] = {}
        if event.reasoning:
            delta["reasoning_content"] = event.reasoning
        if event.text or (event.scored and not event.reasoning and not event.tool_calls):
            delta["content"] = event.text
        if event.tool_calls:
            delta["tool_calls"] = [_tool_delta(call) for call in event.tool_calls]
        return delta


@dataclass(slots=True)
class _Choice:
    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    scored: list[Scored] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)
    reason: str | None = None
    own: dict[str, Any] = field(default_factory=dict)

    def push(self, event: Delta) -> None:
        self.texts.append(event.text)
        self.thoughts.append(event.reasoning)
        self.scored.extend(event.scored)
        self.reason = event.finish_reason
        for call in event.tool_calls:
            if call.index == len(self.calls):
                self.calls.append(_tool_delta(call))
                del self.calls[-1]["index"]
            else:
                self.calls[call.index]["function"]["arguments"] += call.arguments
        if event.finish_reason:
            self.own = own_fields(event)

    def message(self) -> dict[str, Any]:
        """The answer.  Its content is null where it is nothing but calls."""
        text, thought = "".join(self.texts), "".join(self.thoughts)
        message: dict[str, Any] = {
            "role": "assistant",
            "content": text or (None if self.calls else ""),
            "refusal": None,
        }
        if thought:
            message["reasoning_content"] = thought
        if self.calls:
            message["tool_calls"] = self.calls
        return message


class ChatAnswer:
    """Deltas to one body."""

    def __init__(self, id: str, request: Request) -> None:
        self._head = _head(id, "chat.completion", request.model)
        self._choices = [_Choice() for _ in range(request.n)]
        self._with_logprobs = request.num_top is not None
        self._num_reasoning = 0

    def push(self, event: Prompted | Delta) -> None:
        if isinstance(event, Delta):
            self._choices[event.index].push(event)
            self._num_reasoning += event.num_reasoning

    def body(self, num_prompt: int, num_cached: int, num_answer: int) -> bytes:
        choices = [
            {
                "index": index,
                "message": choice.message(),
                "logprobs": _logprobs(choice.scored) if self._with_logprobs else None,
                "finish_reason": choice.reason,
            }
            for index, choice in enumerate(self._choices)
        ]
        own = joined([choice.own for choice in self._choices])
        counts = usage(num_prompt, num_cached, num_answer, self._num_reasoning)
        body = {**self._head, "choices": choices, "usage": counts} | ({"isochrone": own} if own else {})
        return msgspec.json.encode(body)


def _tool_delta(call: ToolDelta) -> dict[str, Any]:
    """A call's first part has its id and name, as OpenAI's clients expect; the others only arguments."""
    if not call.name:
        return {"index": call.index, "function": {"arguments": call.arguments}}
    function = {"name": call.name, "arguments": call.arguments}
    return {"index": call.index, "id": call.id, "type": "function", "function": function}


def new_id() -> str:
    """A name for a new answer."""
    return f"chatcmpl-{uuid.uuid4().hex}"


def _head(id: str, kind: str, model: str) -> dict[str, Any]:
    return {"id": id, "object": kind, "created": int(time.time()), "model": model}


def _logprobs(scored: tuple[Scored, ...] | list[Scored]) -> dict[str, Any]:
    return {"content": [_scored(token) for token in scored], "refusal": None}


def _scored(token: Scored) -> dict[str, Any]:
    top = [{"token": text, "logprob": logprob, "bytes": list(raw)} for text, raw, logprob in token.top]
    return {"token": token.text, "logprob": token.logprob, "bytes": list(token.raw), "top_logprobs": top}


__all__ = ["PARSER", "REFUSED", "ChatAnswer", "ChatFields", "ChatStream", "answer", "new_id", "to_request"]
