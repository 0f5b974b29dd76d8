"""What Converse answers, event by event or in one piece, as our deltas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from isochrone.errors import IsochroneError, Unreachable

from .bedrock_faults import fault, filtered
from .bedrock_frames import Frame
from .bedrock_request import ANSWER_TOOL, answers_by_tool, callable_tools
from .bedrock_settings import BedrockModel
from .place import Chat, Delta, FinishReason, Request, ToolDelta, Usage

Json = dict[str, Any]

_FINISHED: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}


def _forget(id: str, thoughts: tuple[Json, ...]) -> None:
    """For answers whose calls nobody brings back."""


class ConverseAnswer:
    """One answer as it comes.

    remember  is told, for the id of each call, the signed thoughts that came before it
    is_done   its last event has come
    has_said  something of it has been given away: from then on a failure is a broken stream
    served    what the answer was made with: `latency`, `tier`, and `latency_ms` as Amazon measured it
    """

    def __init__(
        self, request: Request, model: BedrockModel, remember: Callable[[str, tuple[Json, ...]], None] = _forget
    ) -> None:
        self._model, self._remember = model.name, remember
        self._thoughts: list[Json] = []
        self._by_tool = answers_by_tool(request, model)
        self._callable = callable_tools(request)
        chat = request.prompt
        self._num_calls_max = 1 if isinstance(chat, Chat) and not chat.parallel_tool_calls else 10_000
        begun = request.partial
        self._skips_space = begun is not None and begun.text != begun.text.rstrip()
        self._hides_thoughts = begun is not None and bool(begun.reasoning)
        self._blocks: dict[int, _Block] = {}
        self._num_calls = 0
        self._has_answered = False
        self._text, self._reasoning = "", ""
        self._calls: list[ToolDelta] = []
        self._num_tokens = self._num_thoughts = 0
        self._stop_reason: str | None = None
        self._stopped_by: str | None = None
        self._usage: Usage | None = None
        self.is_done = self.has_said = False
        self.served: Json = {}

    def push(self, frame: Frame) -> None:
        """Take in one message.  Raises what an exception in the stream stands for."""
        headers = frame.headers
        kind = headers.get(":message-type")
        if kind in ("exception", "error"):
            raise self._fault(frame)
        if kind != "event":
            raise self._broken(f"a message is a {kind!r}")
        self._take(headers.get(":event-type", ""), _decoded(frame.payload, self._model))

    def push_whole(self, body: Json) -> None:
        """Take in an answer that came in one piece."""
        message = body.get("output", {}).get("message", {})
        for index, block in enumerate(message.get("content", ())):
            if "toolUse" in block:
                call = block["toolUse"]
                self._start(index, call)
                self._input(index, msgspec.json.encode(call.get("input", {})).decode())
            elif "reasoningContent" in block:
                said = block["reasoningContent"]
                self._delta(index, {"reasoningContent": said.get("reasoningText", said)})
            else:
                self._delta(index, block)
            self._stop(index)
        self._take("messageStop", body)
        self._take("metadata", body)

    def take(self) -> Delta | None:
        """What has come since the last time, as one delta; None where nothing a caller can see has."""
        if not (self._text or self._reasoning or self._calls):
            return None
        delta = Delta(
            0,
            self._text,
            self._num_tokens,
            reasoning=self._reasoning,
            tool_calls=tuple(self._calls),
            num_reasoning=self._num_thoughts,
        )
        self._text, self._reasoning, self._calls = "", "", []
        self._num_tokens = self._num_thoughts = 0
        self.has_said = True
        return delta

    def finish(self) -> Delta:
        """The last delta, when the stream is over.  Raises for an answer that did not end, or was not let through."""
        reason = self._finish_reason()
        usage = self._usage
        return Delta(
            0,
            "",
            0,
            finish_reason=reason,
            num_cached=usage.num_cached if usage else 0,
            stopped_by=self._stopped_by,
            usage=usage,
        )

    def _take(self, kind: str, event: Json) -> None:
        match kind:
            case "contentBlockStart":
                self._start(event.get("contentBlockIndex", 0), event.get("start", {}).get("toolUse"))
            case "contentBlockDelta":
                self._delta(event.get("contentBlockIndex", 0), event.get("delta", {}))
            case "contentBlockStop":
                self._stop(event.get("contentBlockIndex", 0))
            case "messageStop":
                self._stop_reason = event.get("stopReason", "")
                more = event.get("additionalModelResponseFields")
                if self._stop_reason == "stop_sequence" and isinstance(more, dict):
                    self._stopped_by = more.get("stop_sequence")
            case "metadata":
                self._usage = _usage(event.get("usage", {}))
                self._note(event)
                self.is_done = True
            case _:
                pass  # messageStart says a role, and what Amazon adds later says nothing to us

    def _note(self, event: Json) -> None:
        latency = event.get("performanceConfig", {}).get("latency")
        tier = event.get("serviceTier", {}).get("type")
        self.served = {"latency": latency, "tier": tier, "latency_ms": event.get("metrics", {}).get("latencyMs")}

    def _start(self, index: int, call: Json | None) -> None:
        if call is None:
            return
        if call.get("type") == "server_tool_use":
            block = _Block("hidden")  # the provider's own tools answer themselves
        elif self._by_tool and call["name"] == ANSWER_TOOL:
            block = _Block("hidden" if self._has_answered else "answer")
            self._has_answered = True
        elif call["name"] in self._callable and self._num_calls < self._num_calls_max:
            block = _Block("call", self._num_calls)
            self._calls.append(ToolDelta(self._num_calls, call["toolUseId"], call["name"]))
            if self._thoughts:
                self._remember(call["toolUseId"], tuple(self._thoughts))
                self._thoughts = []
            self._num_calls += 1
        else:
            block = _Block("hidden")
        self._blocks[index] = block

    def _delta(self, index: int, delta: Json) -> None:
        if "text" in delta:
            self._say(delta["text"])
        elif "toolUse" in delta:
            self._input(index, delta["toolUse"].get("input", ""))
        elif "reasoningContent" in delta:
            block = self._blocks.setdefault(index, _Block("thought"))
            for name, piece in delta["reasoningContent"].items():
                block.thought[name] = block.thought.get(name, "") + piece
            thought = delta["reasoningContent"].get("text", "")
            if thought and not self._hides_thoughts:
                self._reasoning += thought
                self._num_thoughts += 1
                self._num_tokens += 1

    def _say(self, text: str) -> None:
        if self._by_tool:
            return  # words around a call that is the answer are no part of it
        if self._skips_space:
            text = text.lstrip()  # the space was said before, and the model was not told of it
            self._skips_space = not text
        if text:
            self._text += text
            self._num_tokens += 1

    def _input(self, index: int, text: str) -> None:
        block = self._blocks.get(index)
        if block is None or block.kind in ("hidden", "thought") or not text:
            return
        block.has_input = True
        self._num_tokens += 1
        if block.kind == "answer":
            self._text += text
        else:
            self._calls.append(ToolDelta(block.call, arguments=text))

    def _stop(self, index: int) -> None:
        block = self._blocks.get(index)
        if block is not None and block.kind == "thought":
            self._thoughts += _signed(block.thought)
        elif block is not None and not block.has_input:
            self._input(index, "{}")  # a call without arguments has no delta of its own

    def _finish_reason(self) -> FinishReason:
        if self._stop_reason is None:
            raise self._broken("it ended in the middle")
        reason = _FINISHED.get(self._stop_reason)
        if reason is None:
            raise self._broken(f"the model ended with {self._stop_reason!r}")
        if reason == "content_filter" and not self.has_said:
            raise filtered(self._stop_reason, self._model)
        if self._by_tool and reason in ("stop", "tool_calls") and not (self._has_answered or self._num_calls):
            raise self._broken("the model did not answer in the form that was asked")
        return "stop" if reason == "tool_calls" and not self._num_calls else reason

    def _fault(self, frame: Frame) -> IsochroneError:
        headers = frame.headers
        error_type = headers.get(":exception-type") or headers.get(":error-code", "")
        said = headers.get(":error-message", "")
        if not said and frame.payload:
            said = str(_decoded(frame.payload, self._model).get("message", ""))
        if self.has_said:
            return self._broken(f"{error_type}: {said}")
        return fault(error_type, said, status=0, model=self._model)

    def _broken(self, why: str) -> Unreachable:
        return Unreachable(
            f"The answer of {self._model} from Amazon Bedrock broke off: {why}.",
            fix="Ask again, or ask another place.",
        )


class _Block:
    """A part of the answer that begins by saying what it is.

    call  its number among the calls;  thought: members of a block of thought, as they grow
    """

    __slots__ = ("call", "has_input", "kind", "thought")

    def __init__(self, kind: str, call: int = 0) -> None:
        self.kind, self.call, self.has_input = kind, call, False
        self.thought: dict[str, str] = {}


def _signed(thought: dict[str, str]) -> list[Json]:
    """The block as the model wants it back; none of a model that does not sign."""
    if "redactedContent" in thought:
        return [{"reasoningContent": {"redactedContent": thought["redactedContent"]}}]
    if "signature" not in thought:
        return []
    return [{"reasoningContent": {"reasoningText": {"text": "", **thought}}}]


def _usage(counts: Json) -> Usage:
    """Amazon counts what it reads from its cache, and what it puts there, beside the other tokens of the prompt."""
    cached, written = counts.get("cacheReadInputTokens") or 0, counts.get("cacheWriteInputTokens") or 0
    return Usage(
        num_prompt=counts.get("inputTokens", 0) + cached + written,
        num_answer=counts.get("outputTokens", 0),
        num_cached=cached,
        num_cache_written=written,
    )


def _decoded(payload: bytes, model: str) -> Json:
    try:
        value = msgspec.json.decode(payload)
    except msgspec.DecodeError:
        value = None
    if not isinstance(value, dict):
        raise Unreachable(
            f"Amazon Bedrock sent a message for {model} that is no JSON object.", fix="Ask again, or ask another place."
        )
    return value
