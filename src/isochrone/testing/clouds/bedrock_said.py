"""What the model says, in the words of Converse: as events of a stream, or in one piece."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from .app import Calling, Ended, Event, Faulted, Thought, Word
from .bedrock_asked import signature_of
from .bedrock_wire import event, exception
from .script import Call, Count, Fault

Json = dict[str, Any]

_STOPS = {"stop": "end_turn", "length": "max_tokens", "calls": "tool_use", "filter": "content_filtered"}


@dataclass(frozen=True, slots=True)
class Stopped:
    """A stop sequence of the request ended the answer."""

    sequence: str
    count: Count


class Failed(Exception):
    """An answer in one piece that fails in its middle."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.kind)
        self.fault = fault


class Converse:
    """Turns what the model says into what Converse says of it."""

    def __init__(
        self, body: Json, parts: AsyncIterator[Event | Stopped], clock: Callable[[], float], downgrades: bool
    ) -> None:
        self._body, self._parts, self._clock, self._downgrades = body, parts, clock, downgrades
        self._began_at = clock()
        self._thought = ""

    async def events(self) -> AsyncIterator[bytes]:
        yield event("messageStart", {"role": "assistant"})
        index, open_kind = -1, ""
        async for part in self._parts:
            kind = type(part).__name__
            is_content = isinstance(part, Thought | Word | Calling)
            if is_content and (kind != open_kind or isinstance(part, Calling)):
                if open_kind:
                    yield self._closed(index, open_kind)
                index, open_kind = index + 1, kind
            match part:
                case Thought(text):
                    self._thought += text
                    yield _delta(index, {"reasoningContent": {"text": text}})
                case Word(text):
                    yield _delta(index, {"text": text})
                case Calling(_, call):
                    yield _tool_start(index, call)
                    for piece in _pieces(call):
                        yield _delta(index, {"toolUse": {"input": piece}})
                case Faulted(fault):
                    yield exception(fault)
                    return
                case Ended() | Stopped():
                    if open_kind:
                        yield self._closed(index, open_kind)
                    for data in self._ending(part):
                        yield data

    async def whole(self) -> Json:
        """The answer in one piece.  Raises Failed."""
        thought, text = "", ""
        content: list[Json] = []
        async for part in self._parts:
            match part:
                case Thought(more):
                    thought += more
                case Word(more):
                    text += more
                case Calling(_, call):
                    content.append({
                        "toolUse": {"toolUseId": _id_of(call), "name": call.name, "input": call.arguments}
                    })
                case Faulted(fault):
                    raise Failed(fault)
                case Ended() | Stopped():
                    ending = self._stop(part) | self._metadata(part)
        if text:
            content.insert(0, {"text": text})
        if thought:
            signed = {"text": thought, "signature": signature_of(thought)}
            content.insert(0, {"reasoningContent": {"reasoningText": signed}})
        return {"output": {"message": {"role": "assistant", "content": content}}, **ending}

    def _ending(self, end: Ended | Stopped) -> list[bytes]:
        return [event("messageStop", self._stop(end)), event("metadata", self._metadata(end))]

    def _closed(self, index: int, kind: str) -> bytes:
        signed = b""
        if kind == "Thought":
            signed = _delta(index, {"reasoningContent": {"signature": signature_of(self._thought)}})
            self._thought = ""
        return signed + event("contentBlockStop", {"contentBlockIndex": index})

    def _stop(self, end: Ended | Stopped) -> Json:
        if isinstance(end, Stopped):
            stop: Json = {"stopReason": "stop_sequence"}
            if "/stop_sequence" in self._body.get("additionalModelResponseFieldPaths", ()):
                stop["additionalModelResponseFields"] = {"stop_sequence": end.sequence}
            return stop
        reason = end.block_reason if end.finish == "filter" else ""
        return {"stopReason": reason or _STOPS[end.finish]}

    def _metadata(self, end: Ended | Stopped) -> Json:
        count = end.count
        num_answer = count.num_answer + count.num_thought
        usage: Json = {
            "inputTokens": max(0, count.num_prompt - count.num_cached - count.num_cache_written),
            "outputTokens": num_answer,
            "totalTokens": count.num_prompt + num_answer,
            "cacheReadInputTokens": count.num_cached,
            "cacheWriteInputTokens": count.num_cache_written,
        }
        if count.num_cache_written:
            usage["cacheDetails"] = [{"ttl": "5m", "inputTokens": count.num_cache_written}]
        metadata: Json = {"usage": usage, "metrics": {"latencyMs": int(1000 * (self._clock() - self._began_at))}}
        for name, standard in (("performanceConfig", {"latency": "standard"}), ("serviceTier", {"type": "default"})):
            if name in self._body:
                metadata[name] = standard if self._downgrades else self._body[name]
        return metadata


def _delta(index: int, delta: Json) -> bytes:
    return event("contentBlockDelta", {"contentBlockIndex": index, "delta": delta})


def _tool_start(index: int, call: Call) -> bytes:
    start = {"toolUse": {"toolUseId": _id_of(call), "name": call.name}}
    return event("contentBlockStart", {"contentBlockIndex": index, "start": start})


def _id_of(call: Call) -> str:
    return call.id or "tooluse_" + uuid.uuid4().hex[:22]


def _pieces(call: Call) -> list[str]:
    """The arguments as JSON, in two pieces; none at all for a call without arguments, as models do."""
    text = json.dumps(call.arguments)
    return [text[: len(text) // 2], text[len(text) // 2 :]] if call.arguments else []
