"""What one call's requests came to, gathered where they pass the guard: for its timeline, its headers, its usage.

A call's trace is found through the context, so that no face can forget it: whatever asks a place on behalf of a call
does so in that call's task, or in one that it started.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from isochrone.budget import Deadline
from isochrone.ledger import Key
from isochrone.ledger.timelines import Timeline
from isochrone.places.place import Delta, Prompted, Receipt, Request, Timing, Usage
from isochrone.places.route import Route

CURRENT: ContextVar[Trace | None] = ContextVar("trace", default=None)


class Trace:
    """Belongs to one call.

    predict        (prompt, cached, answer tokens) to the expected (ttft_s, itl_s), None where nobody predicts
    with_receipts  a header of the call asks for receipts
    """

    def __init__(
        self,
        arrived_at: float,
        *,
        with_receipts: bool = False,
        predict: Callable[[int, int, int], tuple[float, float] | None] = lambda prompt, cached, answer: None,
    ) -> None:
        self.arrived_at, self.with_receipts = arrived_at, with_receipts
        self.run = ""  # that the call is a step of
        self.key: Key | None = None  # whose money it spends
        self._predict = predict
        self._predicted: tuple[tuple[int, int, int], tuple[float, float] | None] | None = None
        self.model = ""
        self.deadline: Deadline | None = None
        self.dated = False
        self.timing: Timing | None = None
        self.finish_reason: str | None = None
        self.ended_by: str | None = None
        self.receipts: list[Receipt] = []
        self.num_prompt = self.num_cached = self.num_answer = 0
        self.num_forced = self.num_drafted = self.num_accepted = 0
        self.first_at: float | None = None
        self.last_at = arrived_at
        self.route: Route | None = None

    def begin(self, request: Request, deadline: Deadline) -> None:
        """A request of this call goes to a place."""
        self.model, self.deadline, self.dated = request.model, deadline, request.dated

    def push(self, event: Prompted | Delta, now: float) -> None:
        """What the place said."""
        if isinstance(event, Prompted):
            self.num_prompt += event.num_tokens
            return
        self.count(event.num_tokens, now)
        self.route = event.route or self.route
        if event.finish_reason is not None:
            self._end(event)

    def count(self, num_tokens: int, now: float) -> None:
        """So many tokens of the answer came."""
        if num_tokens:
            self.first_at = now if self.first_at is None else self.first_at
            self.last_at = now
            self.num_answer += num_tokens

    def settle(self, usage: Usage | None, finish_reason: str | None, now: float) -> None:
        """An answer that was passed on unread has ended; what its place counted replaces what was counted here."""
        self.finish_reason, self.last_at = finish_reason, now
        if usage is not None:
            self.num_prompt, self.num_cached, self.num_answer = usage.num_prompt, usage.num_cached, usage.num_answer

    def _end(self, event: Delta) -> None:
        if event.index == 0:
            self.num_cached += event.num_cached
        self.finish_reason = self.finish_reason or event.finish_reason
        self.ended_by = self.ended_by or event.ended_by
        if event.receipt is not None:
            self.receipts.append(event.receipt)
        if event.timing is not None:
            self.timing = self.timing or event.timing
            self.num_forced += event.timing.num_forced
            self.num_drafted += event.timing.num_drafted
            self.num_accepted += event.timing.num_accepted

    @property
    def ttft_s(self) -> float | None:
        return None if self.first_at is None else self.first_at - self.arrived_at

    @property
    def itl_s(self) -> float | None:
        if self.first_at is None or self.num_answer < 2:
            return None
        return (self.last_at - self.first_at) / (self.num_answer - 1)

    def predicted(self) -> tuple[float, float] | None:
        """(ttft_s, itl_s) as expected with what the cache held."""
        counts = (self.num_prompt, self.num_cached, self.num_answer)
        if self.first_at is None or not self.num_prompt:
            return None
        if self._predicted is None or self._predicted[0] != counts:
            self._predicted = (counts, self._predict(*counts))
        return self._predicted[1]

    def timeline(self, *, id: str, owner: str, route: str, status: int, code: str, now: float) -> Timeline:
        """The whole of it, for the ledger.  now  monotonic, when the call was over"""
        budget, timing = self.deadline, self.timing
        ttft_s, itl_s = self.predicted() or (None, None)
        ttft_at = budget.ttft_at if budget else None
        return Timeline(
            id=id, owner=owner, at=time.time() - (now - self.arrived_at), route=route, status=status, code=code,
            model=self.model, finish_reason=self.finish_reason, ended_by=self.ended_by,
            num_prompt=self.num_prompt, num_cached=self.num_cached, num_answer=self.num_answer,
            num_forced=self.num_forced, num_drafted=self.num_drafted, num_accepted=self.num_accepted,
            budget_ttft_s=None if ttft_at is None else ttft_at - self.arrived_at,
            budget_itl_s=budget.itl_s if budget else None,
            budget_total_s=budget.total_at - self.arrived_at if budget and self.dated else None,
            predicted_ttft_s=ttft_s, predicted_itl_s=itl_s,
            ttft_s=self.ttft_s, itl_s=self.itl_s, total_s=now - self.arrived_at,
            queue_s=timing.queue_s if timing else None,
            prefill_s=timing.prefill_s if timing else None,
            decode_s=timing.decode_s if timing else None,
        )  # fmt: skip


def current_timing() -> dict[str, Any] | None:
    """The `timing` object of a usage: seconds, real beside predicted.  None outside a call, or before a first token."""
    trace = CURRENT.get()
    if trace is None or trace.ttft_s is None:
        return None
    real: dict[str, Any] = {}
    if trace.timing is not None:
        real |= {
            "queue_s": trace.timing.queue_s, "prefill_s": trace.timing.prefill_s, "decode_s": trace.timing.decode_s,
        }  # fmt: skip
    real |= {"ttft_s": trace.ttft_s, "itl_s": trace.itl_s, "total_s": trace.last_at - trace.arrived_at}
    real |= {
        "forced_tokens": trace.num_forced, "drafted_tokens": trace.num_drafted, "accepted_tokens": trace.num_accepted,
    }  # fmt: skip
    predicted = trace.predicted()
    real["predicted"] = None if predicted is None else {"ttft_s": predicted[0], "itl_s": predicted[1]}
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in real.items()}


def server_timing(trace: Trace) -> bytes:
    """The `Server-Timing` header as far as it is known: all of an answer that is sent whole, the start of a stream."""
    parts: list[tuple[str, float | None]] = []
    if trace.timing is not None:
        parts += [("queue", trace.timing.queue_s), ("prefill", trace.timing.prefill_s)]
        parts.append(("decode", trace.timing.decode_s))
    parts += [("ttft", trace.ttft_s), ("total", trace.last_at - trace.arrived_at if trace.finish_reason else None)]
    if predicted := trace.predicted():
        parts.append(("predicted-ttft", predicted[0]))
    return ", ".join(f"{name};dur={seconds * 1000:.3f}" for name, seconds in parts if seconds is not None).encode()
