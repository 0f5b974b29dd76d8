"""The budget as a type: what a caller can wait for, and the instants that follow from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

DEFAULT_TOTAL_S = 60.0
"""Total time of a request that states none: orders undated requests by arrival, so that none starves."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What the caller asked for.  None means not stated.

    ttft_s    time to first token, seconds
    itl_s     inter-token latency, seconds
    total_s   whole answer, seconds
    cost_usd  the most that the answer may cost, US dollars
    quality   the least that the model's benchmark score may be, 0 to 1
    scope     where the prompt may go: `local`, `site`, `region:NAME` or `any`; of several joined by `+` all hold
    """

    ttft_s: float | None = None
    itl_s: float | None = None
    total_s: float | None = None
    cost_usd: float | None = None
    quality: float | None = None
    scope: str = "any"

    def tightened(self, other: Budget) -> Budget:
        """What keeps both: the shorter times, the lower cost, the higher quality, all scopes."""
        return Budget(
            _least(self.ttft_s, other.ttft_s), _least(self.itl_s, other.itl_s), _least(self.total_s, other.total_s),
            _least(self.cost_usd, other.cost_usd), _most(self.quality, other.quality),
            both_scopes(self.scope, other.scope),
        )  # fmt: skip


BUDGET_CLASSES = {
    "voice": Budget(ttft_s=0.5, itl_s=0.1),  # speech goes on before the ear hears a gap, and reads 4 tokens a second
    "chat": Budget(ttft_s=2.0, itl_s=0.2),  # a reader waits two seconds, and reads 5 tokens a second
    "agent-step": Budget(total_s=30.0),  # nobody reads along: only the whole step counts
    "batch": Budget(total_s=3600.0),  # within the hour, after everybody else
}
"""Budgets by name, for callers who know what they are rather than what they need."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator asks of every request; a caller can only tighten it.

    strict        every request is refused at once when no place is likely to meet its budget
    is_routed     there is more than one place, so that cost, quality and scope can choose between them
    expect_scope  raises for a scope that names nothing which is known; None: any name is taken
    """

    budget: Budget = Budget()
    strict: bool = False
    is_routed: bool = False
    expect_scope: Callable[[str], None] | None = None


SINGLE = Policy()
"""Of a server that is one place and whose operator asks for nothing."""


def both_scopes(a: str, b: str) -> str:
    """The scope that lies in both.  `local` is part of `site`, and everything of `any`; the rest is joined by `+`."""
    parts = {part for part in (*a.split("+"), *b.split("+")) if part != "any"}
    if "local" in parts:
        parts.discard("site")
    return "+".join(sorted(parts)) or "any"


def _least(a: float | None, b: float | None) -> float | None:
    return min((x for x in (a, b) if x is not None), default=None)


def _most(a: float | None, b: float | None) -> float | None:
    return max((x for x in (a, b) if x is not None), default=None)


@dataclass(frozen=True, slots=True)
class Deadline:
    """A budget pinned to the clock.  Instants on this machine's monotonic clock, in seconds.

    Between machines travels only what remains: clocks differ.

    itl_s  seconds between tokens that the caller can bear; None: not stated
    cost_usd, quality, scope  as in the budget
    strict  refuse at once what no place is likely to meet, instead of doing what can be done
    """

    arrived_at: float
    ttft_at: float | None
    total_at: float
    itl_s: float | None = None
    cost_usd: float | None = None
    quality: float | None = None
    scope: str = "any"
    strict: bool = False

    @classmethod
    def start(cls, budget: Budget, now: float, *, strict: bool = False) -> Deadline:
        """Stamp a budget at the instant the request's first byte was accepted."""
        total_s = DEFAULT_TOTAL_S if budget.total_s is None else budget.total_s
        ttft_at = None if budget.ttft_s is None else now + budget.ttft_s
        return cls(
            arrived_at=now, ttft_at=ttft_at, total_at=now + total_s, itl_s=budget.itl_s,
            cost_usd=budget.cost_usd, quality=budget.quality, scope=budget.scope, strict=strict,
        )  # fmt: skip

    def remaining_s(self, now: float) -> float:
        """Seconds left of the whole budget; never negative."""
        return max(0.0, self.total_at - now)
