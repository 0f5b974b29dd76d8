"""Chunks of `generateContent` as deltas of an answer."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import msgspec

from isochrone.errors import Unreachable

from .gemini_faults import fault, filtered
from .place import Delta, FinishReason, ToolDelta, Usage

Json = dict[str, Any]
_FINISHED: dict[str, FinishReason] = {"STOP": "stop", "MAX_TOKENS": "length", "CONTINUATION": "length"}
FILTERS = frozenset((
    "SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR", "ESCALATION",
    "IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "PUP_LIMITED_DISABLED", "JAILBREAK",
))  # fmt: skip
"""Ends that a filter made; what is neither here nor a usual end is a model that went wrong."""


class GeminiAnswer:
    """One answer as it grows.

    remember  is told the signature of each call, to be sent back with it
    has_said  something of it was told
    traffic   how Google served it, such as ON_DEMAND_PRIORITY; empty where it does not say
    """

    def __init__(self, model: str, remember: Callable[[str, str], None]) -> None:
        self._model, self._remember = model, remember
        self._num_calls = 0
        self._finish = self._finish_message = ""
        self._usage: Json = {}
        self.has_said = False
        self.traffic = ""

    def push(self, chunk: Json) -> Delta | None:
        """What a chunk adds; None for nothing to see.  Raises what an error or a blocked prompt stands for."""
        if "error" in chunk:
            raise fault(0, chunk, model=self._model)
        self._usage = chunk.get("usageMetadata") or self._usage
        self.traffic = self._usage.get("trafficType") or self.traffic
        feedback = chunk.get("promptFeedback") or {}
        if feedback.get("blockReason"):
            raise filtered(str(feedback["blockReason"]), self._model, str(feedback.get("blockReasonMessage") or ""))
        text, thoughts, calls = "", "", []
        for candidate in chunk.get("candidates") or ():
            if candidate.get("index", 0) != 0:
                continue
            self._finish = candidate.get("finishReason") or self._finish
            self._finish_message = candidate.get("finishMessage") or self._finish_message
            for part in (candidate.get("content") or {}).get("parts") or ():
                if "functionCall" in part:
                    calls.append(self._called(part))
                elif part.get("thought"):
                    thoughts += part.get("text", "")
                else:
                    text += part.get("text", "")
        if not (text or thoughts or calls):
            return None
        self.has_said = True
        return Delta(0, text, 1, reasoning=thoughts, tool_calls=tuple(calls), num_reasoning=int(bool(thoughts)))

    def finish(self) -> Delta:
        """The last delta.  Raises ContentFiltered when a filter left nothing, Unreachable when the end is missing."""
        usage = self._counted()
        if self._finish in FILTERS:
            if not self.has_said:
                raise filtered(self._finish, self._model, self._finish_message)
            return Delta(0, "", 0, finish_reason="content_filter", usage=usage, num_cached=usage.num_cached)
        reason = _FINISHED.get(self._finish)
        if reason is None:
            raise Unreachable(
                f"The answer of {self._model} broke off ({self._finish or 'the stream ended'}"
                f"{f': {self._finish_message}' if self._finish_message else ''}).",
                fix="Ask again, or ask another place.",
            )
        if reason == "stop" and self._num_calls:
            reason = "tool_calls"
        return Delta(0, "", 0, finish_reason=reason, usage=usage, num_cached=usage.num_cached)

    def _called(self, part: Json) -> ToolDelta:
        call = part["functionCall"]
        id = str(call.get("id") or f"call_{secrets.token_hex(12)}")
        index, self._num_calls = self._num_calls, self._num_calls + 1
        if part.get("thoughtSignature"):
            self._remember(id, str(part["thoughtSignature"]))
        arguments = msgspec.json.encode(call.get("args") or {}).decode()
        return ToolDelta(index, id, str(call.get("name") or ""), arguments)

    def _counted(self) -> Usage:
        """Thoughts are billed as the answer is, and Google counts them apart."""
        said = self._usage
        num_thought = int(said.get("thoughtsTokenCount") or 0)
        return Usage(
            num_prompt=int(said.get("promptTokenCount") or 0) + int(said.get("toolUsePromptTokenCount") or 0),
            num_answer=int(said.get("candidatesTokenCount") or 0) + num_thought,
            num_cached=int(said.get("cachedContentTokenCount") or 0),
            num_reasoning=num_thought,
        )
