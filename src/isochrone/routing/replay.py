"""What another policy would have come to, estimated from what was recorded: inverse propensity weights.

Each recorded choice says with which probability it was made.  Where another policy would have chosen the same target,
what came of it counts for that policy, weighted by one over that probability; where it would have chosen otherwise,
nothing is known and nothing is counted (Horvitz & Thompson 1952; self-normalised as Swaminathan & Joachims 2015).
The estimate is as good as its effective number of requests: it stands on ties and exploration, so a recording without
either can judge only the policy that made it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from .records import Ask, Decision, Row, Target

WEIGHT_MAX = 100.0
"""One request never counts as more than so many: rarer choices would be all there is to see."""


class Recorded(Protocol):
    """One request, as a ledger kept it.

    kept  whether it was answered inside its whole budget;  cost_usd: of all its attempts;  ttft_s: None if none came
    """

    @property
    def ask(self) -> Ask: ...

    @property
    def decision(self) -> Decision: ...

    @property
    def kept(self) -> bool: ...

    @property
    def cost_usd(self) -> float: ...

    @property
    def ttft_s(self) -> float | None: ...


Rule = Callable[[Ask, Sequence[Row]], Target | None]
"""A policy over the rows of a recorded decision: those with a `p_within` could have answered."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a policy would have come to.

    num_same       requests that it would have sent where they went;  num_effective: what the weights leave of them
    goodput        share of requests inside their budget;  goodput_error: its standard error
    cost_usd       of one request, on average
    """

    policy: str
    num_requests: int
    num_same: int
    num_effective: float
    goodput: float | None
    goodput_error: float | None
    cost_usd: float | None
    ttft_s_mean: float | None


def estimate(name: str, rule: Rule, recorded: Iterable[Recorded]) -> Estimate:
    """Weigh what was recorded by what the rule would have chosen."""
    num_requests, seen = 0, list[tuple[float, Recorded]]()
    for one in recorded:
        num_requests += 1
        decision = one.decision
        if decision.chosen is not None and rule(one.ask, decision.rows) == decision.chosen:
            seen.append((min(WEIGHT_MAX, 1.0 / max(decision.propensity, 1e-9)), one))
    total = sum(weight for weight, _ in seen)
    if not seen:
        return Estimate(name, num_requests, 0, 0.0, None, None, None, None)
    goodput = sum(weight * one.kept for weight, one in seen) / total
    scatter = sum((weight * (one.kept - goodput)) ** 2 for weight, one in seen)
    firsts = [(weight, one.ttft_s) for weight, one in seen if one.ttft_s is not None]
    return Estimate(
        name, num_requests, len(seen), total * total / sum(weight * weight for weight, _ in seen),
        goodput, math.sqrt(scatter) / total, sum(weight * one.cost_usd for weight, one in seen) / total,
        sum(weight * first_s for weight, first_s in firsts) / sum(weight for weight, _ in firsts) if firsts else None,
    )  # fmt: skip


def cheapest(ask: Ask, rows: Sequence[Row]) -> Target | None:
    """The least expected cost, whatever the budget; of equals the likelier."""
    return _best(rows, lambda row: (row.cost_usd or 0.0, -(row.p_within or 0.0)))


def fastest(ask: Ask, rows: Sequence[Row]) -> Target | None:
    """The least median time to first token."""
    return _best(rows, lambda row: (math.inf if row.ttft is None else row.ttft.p50_s, row.cost_usd or 0.0))


def surest(ask: Ask, rows: Sequence[Row]) -> Target | None:
    """The highest probability of keeping the budget."""
    return _best(rows, lambda row: (-(row.p_within or 0.0), row.cost_usd or 0.0))


def at_least(p: float) -> Rule:
    """The cheapest of those that keep the budget with this probability, else the surest."""

    def rule(ask: Ask, rows: Sequence[Row]) -> Target | None:
        likely = [row for row in rows if row.p_within is not None and row.p_within >= p]
        return cheapest(ask, likely) if likely else surest(ask, rows)

    return rule


RULES: Mapping[str, Rule] = {
    "cheapest": cheapest, "fastest": fastest, "surest": surest,
    "p90": at_least(0.9), "p95": at_least(0.95), "p99": at_least(0.99),
}  # fmt: skip


def _best(rows: Sequence[Row], key: Callable[[Row], tuple[float, float]]) -> Target | None:
    able = [row for row in rows if row.p_within is not None]
    if not able:
        return None
    best = min(able, key=key)
    return best.place, best.model


def kept_budget(
    ask: Ask, *, ttft_s: float | None, total_s: float | None, num_answer: int, cost_usd: float
) -> bool:
    """Whether an answer kept every part of the budget that was stated.  None: it did not come."""
    if ttft_s is None or total_s is None:
        return False
    itl_s = (total_s - ttft_s) / max(1, num_answer - 1)
    return (
        (ask.ttft_s is None or ttft_s <= ask.ttft_s)
        and (ask.total_s is None or total_s <= ask.total_s)
        and (ask.itl_s is None or itl_s <= ask.itl_s)
        and (ask.cost_usd is None or cost_usd <= ask.cost_usd)
    )
