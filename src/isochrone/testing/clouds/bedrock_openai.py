"""Bedrock's other face: OpenAI's chat completions, behind the same gate."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

from .app import Calling, Ended, Event, Faulted, Thought, Word
from .bedrock_wire import REFUSALS, said_of
from .script import Fault

Json = dict[str, Any]

_FINISHED = {"stop": "stop", "length": "length", "calls": "tool_calls", "filter": "content_filter"}


def last_text(body: Json) -> str:
    messages = body.get("messages") or [{}]
    content = messages[-1].get("content") or ""
    return content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)


def refusal(fault: Fault) -> tuple[int, Json]:
    """(status, body) as OpenAI's clients read it."""
    status, kind, _ = REFUSALS[fault.kind]
    return status, {"error": {"message": said_of(fault), "type": kind, "param": None, "code": kind}}


async def chunks(body: Json, parts: AsyncIterator[Event]) -> AsyncIterator[bytes]:
    """The answer as server-sent events."""
    id = f"chatcmpl-{uuid.uuid4().hex}"
    yield _event(body, id, {"role": "assistant", "content": ""})
    async for part in parts:
        match part:
            case Faulted(fault):
                yield b"data: " + json.dumps(refusal(fault)[1]).encode() + b"\n\n"
                return
            case Ended():
                yield _event(body, id, {}, _FINISHED[part.finish])
                if (body.get("stream_options") or {}).get("include_usage"):
                    yield _event(body, id, None, usage=_usage(part))
                yield b"data: [DONE]\n\n"
            case _:
                yield _event(body, id, _delta(part))


async def whole(body: Json, parts: AsyncIterator[Event]) -> tuple[int, Json]:
    """(status, body) of the answer in one piece."""
    message: Json = {"role": "assistant", "content": ""}
    async for part in parts:
        match part:
            case Word(text):
                message["content"] += text
            case Calling():
                calls = message.setdefault("tool_calls", [])
                calls += [{name: call[name] for name in ("id", "type", "function")} for call in _calls(part)]
            case Faulted(fault):
                return refusal(fault)
            case Ended():
                choice = {"index": 0, "message": message, "finish_reason": _FINISHED[part.finish]}
                return 200, {**_head(body, f"chatcmpl-{uuid.uuid4().hex}", "chat.completion"), "choices": [choice],
                             "usage": _usage(part)}  # fmt: skip
            case Thought():
                pass  # this face does not show what the model thinks
    raise AssertionError("an answer ends or fails")


def _delta(part: Event) -> Json:
    match part:
        case Thought(text):
            return {"reasoning": text}
        case Word(text):
            return {"content": text}
        case Calling():
            return {"tool_calls": _calls(part)}
    raise AssertionError(part)


def _calls(part: Calling) -> list[Json]:
    function = {"name": part.call.name, "arguments": json.dumps(part.call.arguments)}
    id = part.call.id or f"call_{uuid.uuid4().hex[:24]}"
    return [{"index": part.index, "id": id, "type": "function", "function": function}]


def _usage(end: Ended) -> Json:
    count = end.count
    num_answer = count.num_answer + count.num_thought
    return {
        "prompt_tokens": count.num_prompt,
        "completion_tokens": num_answer,
        "total_tokens": count.num_prompt + num_answer,
        "prompt_tokens_details": {"cached_tokens": count.num_cached},
    }


def _head(body: Json, id: str, kind: str) -> Json:
    return {"id": id, "object": kind, "created": 1_800_000_000, "model": body.get("model", "")}


def _event(body: Json, id: str, delta: Json | None, finish: str | None = None, usage: Json | None = None) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    chunk = {**_head(body, id, "chat.completion.chunk"), "choices": choices, "usage": usage}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"
