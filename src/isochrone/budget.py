"""The budget as a type: what a caller can wait for, and the instants that follow from it."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_TOTAL_S = 60.0
"""Total time of a request that states none: orders undated requests by arrival, so that none starves."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What the caller asked for.  None means not stated.

    ttft_s   time to first token, seconds
    itl_s    inter-token latency, seconds
    total_s  whole answer, seconds
    """

    ttft_s: float | None = None
    itl_s: float | None = None
    total_s: float | None = None


@dataclass(frozen=True, slots=True)
class Deadline:
    """A budget pinned to the clock.  Instants on this machine's monotonic clock, in seconds.

    Between machines travels only what remains: clocks differ.

    itl_s  seconds between tokens that the caller can bear; None: not stated
    """

    arrived_at: float
    ttft_at: float | None
    total_at: float
    itl_s: float | None = None

    @classmethod
    def start(cls, budget: Budget, now: float) -> Deadline:
        """Stamp a budget at the instant the request's first byte was accepted."""
        total_s = DEFAULT_TOTAL_S if budget.total_s is None else budget.total_s
        ttft_at = None if budget.ttft_s is None else now + budget.ttft_s
        return cls(arrived_at=now, ttft_at=ttft_at, total_at=now + total_s, itl_s=budget.itl_s)

    def remaining_s(self, now: float) -> float:
        """Seconds left of the whole budget; never negative."""
        return max(0.0, self.total_at - now)
