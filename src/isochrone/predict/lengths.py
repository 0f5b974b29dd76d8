"""How long an answer will be: what answers of the same kind came to, given what has been said already.

Answers are counted per route in buckets a third of a doubling wide.  A route that has shown little leans on what all
routes together have shown, and they on a weak prior.  The past fades by halving every count once there are many.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

BUCKETS_PER_DOUBLING = 3
NUM_BUCKETS = 17 * BUCKETS_PER_DOUBLING + 1
"""Up to 131,072 tokens."""
NUM_POINTS = 8
"""Equally likely lengths by which a distribution is handed on."""
COUNT_MAX = 2000.0
"""Counts of a route are halved here, so that last week weighs less than today."""
NUM_LEANT_ON = 12.0
"""Answers of its own that weigh as much as those of all routes."""
NUM_ROUTES_MAX = 4096
"""A route has its tenant in it, and other gateways name tenants as they like; the longest silent is forgotten."""
PRIOR_P50, PRIOR_DOUBLINGS, PRIOR_COUNT = 128.0, 1.5, 4.0
"""Before anything is known: half the answers within 128 tokens, two of three within a factor of 3 of it."""

EDGES: Array = 2.0 ** (np.arange(NUM_BUCKETS + 1) / BUCKETS_PER_DOUBLING)
_SHARES: Array = (np.arange(NUM_POINTS) + 0.5) / NUM_POINTS


@dataclass(slots=True)
class _Route:
    counts: Array
    total: float = 0.0
    num_seen: int = 0
    num_at_points: int = -1
    points: dict[int, Array] = field(default_factory=dict)


class Lengths:
    """Answers by route."""

    def __init__(self) -> None:
        middle = np.log2(EDGES[:-1] / PRIOR_P50)
        weights = np.exp(-0.5 * (middle / PRIOR_DOUBLINGS) ** 2)
        self._all = _Route(PRIOR_COUNT * weights / weights.sum(), PRIOR_COUNT)
        self._routes: OrderedDict[str, _Route] = OrderedDict()

    def observe(self, route: str, num_tokens: int) -> None:
        """An answer of that route came to so many tokens."""
        if num_tokens < 1:
            return
        mine = self._routes.get(route)
        if mine is None:
            mine = self._routes[route] = _Route(np.zeros(NUM_BUCKETS))
            if len(self._routes) > NUM_ROUTES_MAX:
                self._routes.popitem(last=False)
        self._routes.move_to_end(route)
        for counted in (mine, self._all):
            counted.counts[_bucket(num_tokens)] += 1.0
            counted.total += 1.0
            counted.num_seen += 1
            if counted.total > COUNT_MAX:
                counted.counts *= 0.5
                counted.total *= 0.5

    def points(self, route: str, *, num_max: int | None = None, num_said: int = 0) -> Array:
        """Equally likely lengths of the whole answer, ascending, f64 [8].

        num_max   what the caller allows;  num_said: tokens that are out already
        """
        mine = self._routes.get(route, self._all)
        if num_said:
            return self._computed(mine, num_max, num_said)
        if mine.num_seen - mine.num_at_points > mine.num_at_points >> 4:  # every answer at first, then every few
            mine.points.clear()
            mine.num_at_points = mine.num_seen
        cap = -1 if num_max is None else num_max
        points = mine.points.get(cap)
        if points is None:
            if len(mine.points) > 64:
                mine.points.clear()
            points = mine.points[cap] = self._computed(mine, num_max, 0)
        return points

    def plain_points(self, route: str, *, num_max: int | None = None) -> list[float]:
        """The same of an answer that has not begun, as plain numbers."""
        points: list[float] = self.points(route, num_max=num_max).tolist()
        return points

    def _computed(self, mine: _Route, num_max: int | None, num_said: int) -> Array:
        counts = mine.counts
        if mine is not self._all:
            counts = counts + self._all.counts * (NUM_LEANT_ON / (self._all.total * (1.0 + mine.total / NUM_LEANT_ON)))
        if num_said:
            first = _bucket(num_said)
            counts = counts.copy()
            counts[:first] = 0.0
            counts[first] *= (EDGES[first + 1] - num_said) / (EDGES[first + 1] - EDGES[first])
            if counts.sum() <= 0.0:  # longer than any before: half as much again, whatever it is
                points = num_said * (1.0 + 2.0 * _SHARES)
                return points if num_max is None else np.minimum(points, float(max(num_max, num_said)))
        cumulative = np.concatenate(([0.0], np.cumsum(counts)))
        points = np.interp(_SHARES * cumulative[-1], cumulative, EDGES)
        if num_said:
            points = np.maximum(points, float(num_said))
        if num_max is not None:
            points = np.minimum(points, float(max(num_max, num_said, 1)))
        return np.asarray(points, dtype=np.float64)


def _bucket(num_tokens: int) -> int:
    return min(int(math.log2(num_tokens) * BUCKETS_PER_DOUBLING + 1e-9), NUM_BUCKETS - 1)
