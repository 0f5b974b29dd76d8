"""Learning from what happened: how far predictions were off, and how widely they scatter.

The ratio actual / predicted is followed on a logarithmic scale (a latency that doubles and one that halves are
equally wrong) with exponentially fading memory.  Its mean corrects the next prediction, its spread gives quantiles.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

SPREAD_AT_FIRST = 0.15
"""Standard deviation of the logarithm before anything was observed: about 15 % either way."""
MEMORY = 50.0
"""Observations after which the past weighs 1/e of the present."""
RATIO_MAX = 20.0
"""One observation never says more than this: a machine that was suspended is no latency."""
SCORES = {"p50": 0.0, "p90": 1.2816, "p95": 1.6449, "p99": 2.3263}
"""Standard scores of the normal distribution."""


@dataclass(frozen=True, slots=True)
class Quantiles:
    """A predicted duration as a distribution, seconds."""

    s_p50: float
    s_p90: float
    s_p95: float
    s_p99: float


@dataclass(frozen=True, slots=True)
class Correction:
    """What predictions of one kind (a model's TTFT, say) have taught so far.

    bias      mean of log(actual / predicted)
    variance  of the same, around that mean
    weight    observations remembered, faded
    error     mean of |actual - predicted| / actual, as it was shown: corrected prediction against what happened
    """

    bias: float = 0.0
    variance: float = SPREAD_AT_FIRST**2
    weight: float = 0.0
    error: float = 0.0

    def apply(self, predicted_s: float) -> Quantiles:
        """The corrected prediction as quantiles."""
        spread = math.sqrt(self.variance)
        middle = predicted_s * math.exp(self.bias)
        return Quantiles(*(middle * math.exp(score * spread) for score in SCORES.values()))


def learn(correction: Correction, *, predicted_s: float, actual_s: float) -> Correction:
    """The correction after one more observation; predicted_s is the prediction before any correction.

    The prior counts as one observation without bias, so that the first ones do not swing it at will.
    """
    if not (0.0 < predicted_s < math.inf and 0.0 < actual_s < math.inf):
        return correction
    ratio = min(max(math.log(actual_s) - math.log(predicted_s), -math.log(RATIO_MAX)), math.log(RATIO_MAX))
    weight = correction.weight * math.exp(-1.0 / MEMORY) + 1.0
    rate = 1.0 / (weight + 1.0)
    off = ratio - correction.bias
    shown_s = predicted_s * math.exp(correction.bias)
    wrong = min(abs(actual_s - shown_s) / actual_s, RATIO_MAX)
    return Correction(
        bias=correction.bias + rate * off,
        variance=(1.0 - rate) * (correction.variance + rate * off * off),
        weight=weight,
        error=correction.error + (wrong - correction.error) / weight,
    )
