"""Deltas to an Anthropic message, whole or streamed.

    reasoning  ->  a block `thinking`:  start, thinking_delta ..., signature_delta, stop
    text       ->  a block `text`:      start, text_delta ..., stop
    a call     ->  a block `tool_use`:  start, input_json_delta ..., stop

One block is open at a time: what belongs to another closes it.  A message in one piece is what a client puts together
from the events, except that a call which the limit cut off is left out: its arguments are no object.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import msgspec

from isochrone.places.place import Delta, Prompted, Request, ToolDelta

from .anthropic_fields import MessageFields, ThinkingFree, ThinkingOn

Body: TypeAlias = dict[str, Any]
SIGNATURE = "unsigned"
"""Thoughts are in the open here, so there is nothing to sign; clients want the field, and some want it not empty."""


@dataclass(slots=True)
class _Block:
    """The open block.  call  index of its call in the answer, of a tool_use;  parts: what it gained"""

    kind: Literal["thinking", "text", "tool_use"]
    head: Body
    call: int = -1
    parts: list[str] = field(default_factory=list)

    def whole(self) -> Body | None:
        """The block as a message in one piece has it; None for a call that was cut off."""
        said = "".join(self.parts)
        match self.kind:
            case "thinking":
                return {"type": "thinking", "thinking": said, "signature": SIGNATURE}
            case "text":
                return {"type": "text", "text": said, "citations": None}
        arguments = _object(said)
        return None if arguments is None else self.head | {"input": arguments}


class MessageDraft:
    """A message while it is being written: `push` gives what a stream says of it, `body` the message as it is.

    shows_thoughts  false: blocks of thinking come without their text (`display` `omitted`)
    """

    def __init__(self, request: Request, fields: MessageFields) -> None:
        thinking = fields.thinking
        display = thinking.display if isinstance(thinking, ThinkingOn | ThinkingFree) else None
        self._shows_thoughts = display != "omitted"
        self._max_tokens, self._is_pinned = fields.max_tokens, request.pin_s is not None
        self._head = {"id": f"msg_{uuid.uuid4().hex}", "type": "message", "role": "assistant", "model": request.model}
        self._content: list[Body | None] = []
        self._open: _Block | None = None
        self._last: Delta | None = None
        self._num_prompt = self._num_answer = self._num_reasoning = 0

    def push(self, event: Prompted | Delta) -> bytes:
        """The events for what this changes."""
        if isinstance(event, Prompted):
            self._num_prompt += event.num_tokens
            return _event("message_start", {"message": self.body()}) + _event("ping", {})
        self._num_answer += event.num_tokens
        self._num_reasoning += event.num_reasoning
        out = b""
        if event.reasoning:
            out += self._turn_to("thinking", {"type": "thinking", "thinking": "", "signature": ""})
            if self._shows_thoughts:
                out += self._add(event.reasoning, {"type": "thinking_delta", "thinking": event.reasoning})
        if event.text:
            out += self._turn_to("text", {"type": "text", "text": "", "citations": None})
            out += self._add(event.text, {"type": "text_delta", "text": event.text})
        for call in event.tool_calls:
            out += self._call(call)
        if event.finish_reason:
            self._last = event
            out += self._close()
        return out

    def end(self, timing: Body | None = None) -> bytes:
        """The last events.  timing  where the time went, for the usage"""
        delta = {"stop_reason": self._stop_reason(), "stop_sequence": self._stopped_by()}
        said = {"delta": delta, "usage": self._usage(timing)} | self._ours()
        return _event("message_delta", said) + _event("message_stop", {})

    def body(self, timing: Body | None = None) -> Body:
        """The message."""
        return {
            **self._head,
            "content": [block for block in self._content if block is not None],
            "stop_reason": self._stop_reason(),
            "stop_sequence": self._stopped_by(),
            "usage": self._usage(timing),
        } | self._ours()

    def _turn_to(self, kind: Literal["thinking", "text", "tool_use"], head: Body, call: int = -1) -> bytes:
        if self._open is not None and (self._open.kind, self._open.call) == (kind, call):
            return b""
        out = self._close()
        self._open = _Block(kind, head, call)
        return out + _event("content_block_start", {"index": len(self._content), "content_block": head})

    def _call(self, call: ToolDelta) -> bytes:
        head = {"type": "tool_use", "id": call.id, "name": call.name, "input": {}, "caller": {"type": "direct"}}
        out = self._turn_to("tool_use", head, call.index)
        if call.arguments:
            out += self._add(call.arguments, {"type": "input_json_delta", "partial_json": call.arguments})
        return out

    def _add(self, text: str, delta: Body) -> bytes:
        assert self._open is not None
        self._open.parts.append(text)
        return _event("content_block_delta", {"index": len(self._content), "delta": delta})

    def _close(self) -> bytes:
        if self._open is None:
            return b""
        index, out = len(self._content), b""
        if self._open.kind == "thinking":
            signed = {"type": "signature_delta", "signature": SIGNATURE}
            out = _event("content_block_delta", {"index": index, "delta": signed})
        self._content.append(self._open.whole())
        self._open = None
        return out + _event("content_block_stop", {"index": index})

    def _stop_reason(self) -> str | None:
        if self._last is None:
            return None
        if self._last.stopped_by is not None:
            return "tool_use" if self._last.finish_reason == "tool_calls" else "stop_sequence"
        if self._last.finish_reason == "length":
            is_cut_short = self._last.ended_by is None and self._num_answer < self._max_tokens
            return "model_context_window_exceeded" if is_cut_short else "max_tokens"
        return "tool_use" if self._last.finish_reason == "tool_calls" else "end_turn"

    def _stopped_by(self) -> str | None:
        return self._last.stopped_by if self._last else None

    def _usage(self, timing: Body | None) -> Body:
        """Counts as Anthropic gives them: what the cache held, what it now keeps and the rest add up to the prompt."""
        num_cached = self._last.num_cached if self._last else 0
        num_new = self._num_prompt - num_cached
        num_kept = num_new if self._is_pinned else 0
        return {
            "input_tokens": num_new - num_kept,
            "cache_creation_input_tokens": num_kept,
            "cache_read_input_tokens": num_cached,
            "output_tokens": self._num_answer,
            "output_tokens_details": {"thinking_tokens": self._num_reasoning},
        } | ({"timing": timing} if timing else {})

    def _ours(self) -> Body:
        ours: Body = {}
        if self._last and self._last.ended_by:
            ours["ended_by"] = self._last.ended_by
        if self._last and self._last.receipt:
            ours["receipt"] = msgspec.to_builtins(self._last.receipt)
        return {"isochrone": ours} if ours else {}


def _event(kind: str, said: Body) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), msgspec.json.encode({"type": kind, **said}))


def _object(arguments: str) -> Body | None:
    try:
        return msgspec.json.decode(arguments or "{}", type=dict[str, Any])
    except msgspec.DecodeError:
        return None
