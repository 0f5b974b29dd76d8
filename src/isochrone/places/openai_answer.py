"""The chunks of an OpenAI-compatible server as deltas: words, thoughts, calls, scores, the end with what it counted.

Servers differ in small things, and each is met here: usage in the last chunk or in one behind it, `reasoning` for
`reasoning_content`, calls that repeat their id or lack an index, a finish_reason of `stop` behind calls, no `[DONE]`.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec import Struct

from isochrone.errors import Unreachable

from .openai_faults import fault_in_stream
from .place import Delta, FinishReason, Scored, Timing, ToolDelta, Usage

DONE = b"[DONE]"
REASONS: dict[str, FinishReason] = {
    "stop": "stop", "eos": "stop", "end_turn": "stop", "stop_sequence": "stop", "length": "length",
    "max_tokens": "length", "tool_calls": "tool_calls", "function_call": "tool_calls",
    "content_filter": "content_filter",
}  # fmt: skip
"""Other words (`abort`, `error`) say that the server gave up."""


class _Function(Struct):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class _Call(Struct):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Said(Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[_Call] | None = None


class _Choice(Struct):
    index: int = 0
    delta: _Said | None = None
    message: _Said | None = None
    text: str | None = None
    logprobs: Any = None
    finish_reason: str | None = None


class _Cached(Struct):
    cached_tokens: int | None = None


class _Thought(Struct):
    reasoning_tokens: int | None = None


class _Counts(Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Cached | None = None
    completion_tokens_details: _Thought | None = None
    timing: dict[str, Any] | None = None


class _Chunk(Struct):
    choices: list[_Choice] | None = None
    usage: _Counts | None = None
    error: Any = None
    timings: dict[str, Any] | None = None
    metrics: dict[str, Any] | None = None
    object: str | None = None
    message: Any = None
    code: Any = None


_CHUNK = msgspec.json.Decoder(_Chunk)


@dataclass(slots=True)
class _Calling:
    """One call of a choice.  id  as the server said it;  waiting: arguments that came before the name"""

    id: str
    name: str = ""
    waiting: str = ""


@dataclass(slots=True)
class _Going:
    """One answer so far.  reason  it ended with; what it said then waits for the usage"""

    calls: list[_Calling] = field(default_factory=list)
    at: dict[int, int] = field(default_factory=dict)
    reason: FinishReason | None = None
    is_said: bool = False


class OpenAIAnswer:
    """place  its name, for messages;  n: answers that were asked;  now: Unix time, for what errors say

    repeated  words sent along to be gone on with, which this server says again in front of its own
    """

    def __init__(self, place: str, n: int, now: float, repeated: str = "") -> None:
        self._place, self._now = place, now
        self._repeated, self._held = repeated, ""
        self._going = {index: _Going() for index in range(n)}
        self._usage: Usage | None = None
        self._timing: Timing | None = None
        self.is_done = False

    @property
    def is_whole(self) -> bool:
        """Every answer has said why it ended; its usage may still come."""
        return all(going.reason is not None for going in self._going.values())

    def push(self, name: str, data: bytes) -> Iterator[Delta]:
        """What one event brings.  Raises what it says went wrong, and Unreachable for what is no event of theirs."""
        if data.strip() == DONE:
            self.is_done = True
            yield from self._ends(is_over=True)
            return
        yield from self._take(self._chunk(data, is_error=name == "error"))

    def whole(self, body: bytes) -> Iterator[Delta]:
        """What the body of a server brings that does not stream."""
        self.is_done = True
        yield from self._take(self._chunk(body, is_error=False))
        yield from self._ends(is_over=True)

    def close(self) -> Iterator[Delta]:
        """The stream is over.  Raises Unreachable when its answers are not."""
        if any(going.reason is None for going in self._going.values()):
            raise Unreachable(
                f"{self._place} broke off in the middle of its answer.", fix="Ask again, or ask another place."
            )
        yield from self._ends(is_over=True)

    def _chunk(self, data: bytes, *, is_error: bool) -> _Chunk:
        try:
            chunk = _CHUNK.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            if is_error:
                raise fault_in_stream(self._place, data.decode("utf-8", "replace"), self._now) from None
            raise Unreachable(
                f"{self._place} said what is no chunk of an answer: {error}.", fix="Look at that server's log."
            ) from None
        if chunk.error is not None:
            raise fault_in_stream(self._place, chunk.error, self._now)
        if is_error or chunk.object == "error":
            raise fault_in_stream(self._place, {"message": chunk.message, "code": chunk.code}, self._now)
        return chunk

    def _take(self, chunk: _Chunk) -> Iterator[Delta]:
        if chunk.usage is not None:
            self._usage = _usage(chunk.usage) or self._usage
        self._timing = _timing(chunk) or self._timing
        for choice in chunk.choices or ():
            going = self._going.get(choice.index)
            if going is None or going.reason is not None:
                continue  # nobody asked for it, or it only repeats its end
            delta = self._delta(choice, going)
            if choice.finish_reason:
                going.reason = self._reason(choice.finish_reason, going)
            if delta is not None:
                yield delta
        yield from self._ends(is_over=False)

    def _delta(self, choice: _Choice, going: _Going) -> Delta | None:
        said = choice.delta or choice.message or _Said()
        text = (said.content or said.refusal or "") + (choice.text or "")
        text = self._unsaid(text, is_last=choice.finish_reason is not None)
        reasoning = said.reasoning_content or said.reasoning or ""
        calls = tuple(part for call in said.tool_calls or () for part in _called(call, going))
        scored = tuple(_scored(choice.logprobs))
        if not (text or reasoning or calls or scored):
            return None
        num = len(scored) or 1
        num_reasoning = num if reasoning else 0
        return Delta(
            choice.index, text, num, scored, reasoning=reasoning, tool_calls=calls, num_reasoning=num_reasoning
        )

    def _unsaid(self, text: str, *, is_last: bool) -> str:
        """Without the words that were sent along to be gone on with, where the server says them again."""
        if not self._repeated:
            return text
        held = self._held + text
        if not is_last and len(held) < len(self._repeated) and self._repeated.startswith(held):
            self._held = held
            return ""
        repeated, self._repeated, self._held = self._repeated, "", ""
        return held.removeprefix(repeated)

    def _reason(self, said: str, going: _Going) -> FinishReason:
        reason = REASONS.get(said.lower())
        if reason is None:
            raise Unreachable(
                f"{self._place} gave its answer up ({said[:40]}).", fix="Ask again, or ask another place."
            )
        return "tool_calls" if reason == "stop" and going.calls else reason

    def _ends(self, *, is_over: bool) -> Iterator[Delta]:
        """The last deltas, once the usage has come or cannot come any more."""
        if is_over:
            for going in self._going.values():
                going.reason = going.reason or ("tool_calls" if going.calls else "stop")
        if any(going.reason is None for going in self._going.values()) or not (is_over or self._usage):
            return
        last = max(self._going)
        for index, going in self._going.items():
            if not going.is_said:
                going.is_said = True
                usage = self._usage if index == last else None
                cached = self._usage.num_cached if self._usage is not None and index == 0 else 0
                yield Delta(
                    index, "", 0, finish_reason=going.reason, num_cached=cached, usage=usage, timing=self._timing
                )


def _called(call: _Call, going: _Going) -> Iterator[ToolDelta]:
    """What a call gained; its first part waits for the name."""
    at = going.at.get(call.index or 0)
    if at is None or (call.id and going.calls[at].id and call.id != going.calls[at].id):
        at = going.at[call.index or 0] = len(going.calls)
        going.calls.append(_Calling(call.id or f"call_{secrets.token_hex(12)}"))
    calling, function = going.calls[at], call.function or _Function()
    said = function.arguments
    arguments = said if isinstance(said, str) else "" if said is None else msgspec.json.encode(said).decode()
    if calling.name:
        if arguments:
            yield ToolDelta(at, arguments=arguments)
        return
    calling.waiting += arguments
    if function.name:
        calling.name = function.name
        yield ToolDelta(at, calling.id, calling.name, calling.waiting)


def _scored(logprobs: Any) -> Iterator[Scored]:
    """Scores in the shape of chats, or in that of texts."""
    if not isinstance(logprobs, dict):
        return
    content = logprobs.get("content")
    if isinstance(content, list):
        for token in content:
            top = tuple((*_spelled(one), float(one["logprob"])) for one in token.get("top_logprobs") or ())
            yield Scored(*_spelled(token), token.get("logprob"), top)
        return
    tokens, scores, tops = (logprobs.get(name) or [] for name in ("tokens", "token_logprobs", "top_logprobs"))
    for at, (token, logprob) in enumerate(zip(tokens, scores, strict=False)):
        best = tops[at] if at < len(tops) and isinstance(tops[at], dict) else {}
        top = tuple((text, text.encode(), float(score)) for text, score in best.items())
        yield Scored(token, token.encode(), logprob, top)


def _spelled(token: dict[str, Any]) -> tuple[str, bytes]:
    text, raw = token.get("token") or "", token.get("bytes")
    return text, bytes(raw) if isinstance(raw, list) else text.encode()


def _usage(counts: _Counts) -> Usage | None:
    if counts.prompt_tokens is None and counts.completion_tokens is None:
        return None
    cached, thought = counts.prompt_tokens_details, counts.completion_tokens_details
    return Usage(
        counts.prompt_tokens or 0, counts.completion_tokens or 0, (cached and cached.cached_tokens) or 0,
        num_reasoning=(thought and thought.reasoning_tokens) or 0,
    )  # fmt: skip


def _timing(chunk: _Chunk) -> Timing | None:
    """Where the server says that the time went: llama.cpp with every answer, vLLM and ours when they are told to."""
    said = chunk.timings or {}
    if isinstance(said.get("prompt_ms"), int | float):
        drafted = {"num_drafted": int(said.get("draft_n", 0)), "num_accepted": int(said.get("draft_n_accepted", 0))}
        return Timing(0.0, said["prompt_ms"] / 1e3, float(said.get("predicted_ms", 0.0)) / 1e3, **drafted)
    said = chunk.metrics or {}
    if isinstance(said.get("time_to_first_token_ms"), int | float):
        queue_ms = float(said.get("queue_time_ms") or 0.0)
        prefill_ms = max(0.0, float(said["time_to_first_token_ms"]) - queue_ms)
        return Timing(queue_ms / 1e3, prefill_ms / 1e3, float(said.get("generation_time_ms") or 0.0) / 1e3)
    said = (chunk.usage.timing if chunk.usage else None) or {}
    times = [float(time) for name in _TIMES if isinstance(time := said.get(name), int | float)]
    return Timing(times[0], times[1], times[2]) if len(times) == len(_TIMES) else None


_TIMES = ("queue_s", "prefill_s", "decode_s")


