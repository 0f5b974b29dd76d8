"""Deltas to Ollama's lines of JSON: words and thoughts as they come, calls whole, numbers with the last line."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

import msgspec

from isochrone.places.place import Delta, Prompted, Request, Scored, ToolDelta

Body: TypeAlias = dict[str, Any]
Face: TypeAlias = Literal["chat", "generate"]


@dataclass(slots=True)
class _OpenCall:
    head: ToolDelta
    arguments: str


class Draft:
    """An answer while it is being written: `push` gives the lines of a stream, `whole` the one object of the others.

    arrived_at, now  instants on the machine's monotonic clock
    """

    def __init__(self, face: Face, request: Request, model: str, arrived_at: float) -> None:
        self._face: Face = face
        self._model, self._scoring = model, request.num_top is not None
        self._arrived_at, self._read_at = arrived_at, arrived_at
        self._first_at: float | None = None
        self._open: _OpenCall | None = None
        self._text: list[str] = []
        self._thoughts: list[str] = []
        self._calls: list[Body] = []
        self._scored: list[Body] = []
        self._num_prompt = self._num_answer = 0
        self._last: Delta | None = None

    def push(self, event: Prompted | Delta, now: float) -> bytes:
        """The line for what this changes; nothing where there is nothing to show, or at the end."""
        if isinstance(event, Prompted):
            self._num_prompt, self._read_at = event.num_tokens, now
            return b""
        if event.num_tokens and self._first_at is None:
            self._first_at = now
        self._num_answer += event.num_tokens
        calls = self._complete(event)
        scored = [_score(token) for token in event.scored] if self._scoring else []
        self._text.append(event.text)
        self._thoughts.append(event.reasoning)
        self._calls += calls
        self._scored += scored
        if event.finish_reason:
            self._last = event
        if not (event.text or event.reasoning or calls or scored):
            return b""
        return self._line(self._said(event.text, event.reasoning, calls, scored) | {"done": False})

    def last(self, now: float, timing: Body | None = None) -> bytes:
        """The line that ends a stream."""
        return self._line(self._said("", "", [], []) | self._numbers(now, timing))

    def whole(self, now: float, timing: Body | None = None) -> bytes:
        """The answer in one object."""
        said = self._said("".join(self._text), "".join(self._thoughts), self._calls, self._scored)
        return msgspec.json.encode(self._head() | said | self._numbers(now, timing))

    def _complete(self, event: Delta) -> list[Body]:
        """The calls that are whole now.  One that the limit cut off is left out: its arguments are no object."""
        done = []
        for gained in event.tool_calls:
            if self._open is None or gained.index != self._open.head.index:
                done += self._close()
                self._open = _OpenCall(gained, "")
            self._open.arguments += gained.arguments
        return done + (self._close() if event.finish_reason else [])

    def _close(self) -> list[Body]:
        if self._open is None:
            return []
        head, text, self._open = self._open.head, self._open.arguments, None
        try:
            arguments = msgspec.json.decode(text or "{}", type=dict[str, Any])
        except msgspec.DecodeError:
            return []
        return [{"id": head.id, "function": {"index": head.index, "name": head.name, "arguments": arguments}}]

    def _said(self, text: str, thoughts: str, calls: Sequence[Body], scored: Sequence[Body]) -> Body:
        thinking = {"thinking": thoughts} if thoughts else {}
        scores = {"logprobs": scored} if scored else {}
        if self._face == "generate":
            return {"response": text} | thinking | scores
        message = {"role": "assistant", "content": text} | thinking | ({"tool_calls": calls} if calls else {})
        return {"message": message} | scores

    def _numbers(self, now: float, timing: Body | None) -> Body:
        """Counts, and durations in nanoseconds: reading the prompt ends with the first token, writing then begins."""
        assert self._last is not None, "an answer has a last delta"
        first_at = self._first_at or now
        spent = self._last.timing
        read_s = spent.prefill_s if spent else first_at - self._read_at
        write_s = spent.decode_s if spent else now - first_at
        ours: Body = {"timing": timing} if timing else {}
        if self._last.ended_by:
            ours["ended_by"] = self._last.ended_by
        if self._last.receipt:
            ours["receipt"] = msgspec.to_builtins(self._last.receipt)
        return {
            "done": True,
            "done_reason": "length" if self._last.finish_reason == "length" else "stop",
            "total_duration": _ns(now - self._arrived_at),
            "load_duration": 0,
            "prompt_eval_count": self._num_prompt,
            "prompt_eval_duration": _ns(read_s),
            "eval_count": self._num_answer,
            "eval_duration": _ns(write_s),
        } | ({"isochrone": ours} if ours else {})

    def _head(self) -> Body:
        return {"model": self._model, "created_at": instant(time.time())}

    def _line(self, said: Body) -> bytes:
        return msgspec.json.encode(self._head() | said) + b"\n"


def loaded(face: Face, model: str) -> bytes:
    """The answer to a body without a prompt: the model is loaded."""
    said: Body = {"response": ""} if face == "generate" else {"message": {"role": "assistant", "content": ""}}
    return msgspec.json.encode(
        {"model": model, "created_at": instant(time.time()), **said, "done": True, "done_reason": "load"}
    )


def instant(at: float) -> str:
    """A Unix time as Ollama writes it."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _ns(seconds: float) -> int:
    return max(0, round(seconds * 1e9))


def _score(token: Scored) -> Body:
    top = [{"token": text, "logprob": logprob, "bytes": list(raw)} for text, raw, logprob in token.top]
    scored: Body = {"token": token.text, "logprob": token.logprob, "bytes": list(token.raw)}
    return scored | ({"top_logprobs": top} if top else {})
