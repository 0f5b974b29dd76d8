"""What a run came to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .world import Flight


@dataclass(frozen=True, slots=True)
class Measures:
    """goodput        share of all requests that were answered within their whole budget
    usd_per_good   cost of everything, by the answers in budget
    ttft_s_p95     of those that got a first token
    num_failed     got no answer at all
    """

    policy: str
    num_requests: int
    goodput: float
    usd_per_good: float
    ttft_s_p50: float
    ttft_s_p95: float
    num_failed: int
    num_hedges: int


def measure(policy: str, flights: Sequence[Flight]) -> Measures:
    """Over all requests, those at the beginning included, when nothing has been learned yet."""
    good = sum(flight.is_in_budget() for flight in flights)
    ttfts = sorted(f.first_at - f.arrival.at_s for f in flights if math.isfinite(f.first_at))
    return Measures(
        policy=policy, num_requests=len(flights), goodput=good / len(flights),
        usd_per_good=sum(flight.cost_usd for flight in flights) / max(1, good),
        ttft_s_p50=ttfts[len(ttfts) // 2], ttft_s_p95=ttfts[int(0.95 * (len(ttfts) - 1))],
        num_failed=sum(flight.has_failed for flight in flights), num_hedges=sum(f.num_hedges for f in flights),
    )  # fmt: skip
