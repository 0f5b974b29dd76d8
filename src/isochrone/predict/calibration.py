"""Whether what was stated held: of the times stated as p50, p90 and p99, how many were kept; and how to mend it.

The mending is conformal: each stated quantile is shifted on a logarithmic scale, up by its own share when it was
missed and down by the rest when it was kept, so that in the long run it is missed as often as it says, whatever the
model behind it gets wrong (Gibbs & Candès 2021; Angelopoulos et al. 2023, quantile tracking).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

LEVELS = (0.1, 0.5, 0.9, 0.99)
"""Quantiles that are followed.  The first is the floor: as quick as it gets."""
STEP_MIN = 0.06
"""Size of a step in units of the spread, once much has been seen: small enough to settle, large enough to follow."""

TAIL_STEP = 2.5
"""The 99th is missed so seldom that it would be late with the steps of the others."""


@dataclass(slots=True)
class Coverage:
    """Counts of one kind of prediction.

    kept  of each level of LEVELS, how many of the observations were no longer than stated
    """

    num_seen: int = 0
    kept: list[int] = field(default_factory=lambda: [0] * len(LEVELS))

    def observe(self, stated_s: Sequence[float], actual_s: float) -> None:
        """stated_s  for each of LEVELS"""
        self.num_seen += 1
        for index, stated in enumerate(stated_s):
            self.kept[index] += actual_s <= stated

    def shares(self) -> tuple[float, ...]:
        """Of each level, the share that was kept; what was stated while nothing was seen."""
        if not self.num_seen:
            return LEVELS
        return tuple(kept / self.num_seen for kept in self.kept)


def tracked(knots: Sequence[float], residual: float, *, num_seen: int, at_least: bool = False) -> list[float]:
    """Quantiles of a residual after one more observation of it, ascending.

    knots      of each level of LEVELS, as they were
    at_least   the residual is at least this, and more is not known: quantiles above it have nothing to learn
    Early steps are large and shrink with what was seen.  No step is larger than the spread.
    """
    spread = max(0.03, 0.5 * (knots[2] - knots[0]))
    step = spread * max(STEP_MIN, 3.0 / (num_seen + 4.0))
    moved = []
    for level, knot in zip(LEVELS, knots, strict=True):
        size = step * TAIL_STEP if level > 0.95 else step
        if residual > knot:
            moved.append(knot + min(size * level, residual - knot) if level < 0.9 else knot + size * level)
        else:
            moved.append(knot if at_least else knot - size * (1.0 - level))
    for index in range(1, len(moved)):
        moved[index] = max(moved[index], moved[index - 1] + 1e-3)
    return moved
