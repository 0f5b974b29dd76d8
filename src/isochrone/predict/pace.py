"""What a step takes, learned from the steps that were run.

    seconds = constant + token · tokens + row · rows + pair · pairs

A token passes every layer, a row passes the head and is sampled, a pair is one new token that attends one position.
Each observation weighs by its relative error (a step of 5 ms and one of 500 ms teach equally), the past fades, and a
weak prior that never fades keeps a factor where it was for as long as nothing tells it from the others: a thousand
decode steps alike say nothing about the price of a prompt.

No such line fits all steps alike: kernels go by tiles, and small chunks read the cache again and again.  So how far
the line is off is followed for three kinds of steps apart: decode, a small chunk beside it, and mostly prompt.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

Factors = tuple[float, float, float, float]
"""Of the constant, of a token, of a row and of a pair."""

PRIOR: Factors = (3e-3, 0.8e-3, 0.3e-3, 5e-7)
"""Seconds of a small model on two cores of a server; a prior is only where the search begins."""
PRIOR_WEIGHT = 0.02
"""Observations that the prior counts as, for each factor."""
MEMORY = 200.0
"""Observations after which the past weighs 1/e of the present."""
OFF_RATE = 0.1
"""Weight of the newest step in how far its kind is off."""
BULK_TOKENS_PER_ROW = 32
"""A step with more tokens to a row than this is mostly prompt."""
UNBOUNDED = 10**9
"""Tokens of a chunk where a token seems to take no time: more than any prompt has."""
OFF_MAX = 3.0
"""Once enough is known, one step says at most so many times what was expected: a suspended machine is no price."""
NUM_KNOWN = 3
"""Observations from which a prediction is worth acting on."""


@dataclass(frozen=True, slots=True)
class StepLoad:
    """What one step is asked to do.

    num_pairs  (new token, position it attends) pairs, summed over its sequences
    """

    num_tokens: int
    num_rows: int
    num_pairs: float

    @property
    def terms(self) -> Factors:
        return 1.0, float(self.num_tokens), float(self.num_rows), float(self.num_pairs)

    @property
    def kind(self) -> int:
        """0 decode, 1 a small chunk beside it, 2 mostly prompt."""
        if self.num_tokens <= self.num_rows:
            return 0
        return 1 if self.num_tokens <= BULK_TOKENS_PER_ROW * self.num_rows else 2


@dataclass(frozen=True, slots=True)
class Pace:
    """The factors as they are believed now, and the faded sums they come from.

    weight   observations remembered, faded
    products, targets   sums of z zᵀ and of z, where z is the share of the step's time that each term of the prior is
    offs     by kind of step: seconds it takes, over those that the factors say
    """

    factors: Factors = PRIOR
    weight: float = 0.0
    products: tuple[Factors, Factors, Factors, Factors] = ((0.0,) * 4,) * 4
    targets: Factors = (0.0, 0.0, 0.0, 0.0)
    offs: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @property
    def is_known(self) -> bool:
        """Whether enough was seen to act on a prediction."""
        return self.weight >= NUM_KNOWN * 0.9

    def step_s(self, load: StepLoad) -> float:
        """Seconds of such a step."""
        return self.offs[load.kind] * self._line_s(load)

    def prompt_s(self, start: int, num_tokens: float) -> float:
        """Seconds that these tokens of a prompt, behind `start` positions, take in large chunks."""
        _, token, _, pair = self.factors
        return self.offs[2] * num_tokens * (token + pair * (start + num_tokens / 2))

    def chunk_tokens(self, beside: StepLoad, start: int, step_s: float) -> int:
        """Tokens of a prompt behind `start` positions with which a step of this load takes at most step_s seconds."""
        seconds = step_s / self.offs[1 if beside.num_rows else 2] - self._line_s(beside)
        if seconds <= 0.0:
            return 0
        _, token, _, pair = self.factors
        linear = token + pair * start
        root = math.sqrt(linear * linear + 2.0 * pair * seconds)
        slope = linear + root
        return int(min(2.0 * seconds / slope, UNBOUNDED)) if slope > 0.0 else UNBOUNDED

    def _line_s(self, load: StepLoad) -> float:
        return sum(factor * term for factor, term in zip(self.factors, load.terms, strict=True))


def learn_step(pace: Pace, load: StepLoad, step_s: float) -> Pace:
    """The pace after one more step."""
    if not 0.0 < step_s < math.inf:
        return pace
    if pace.weight > 10.0 and pace.step_s(load) > 0.0:  # a model that expects nothing has nothing to say of outliers
        expected_s = pace.step_s(load)
        step_s = min(max(step_s, expected_s / OFF_MAX), expected_s * OFF_MAX)
    z = tuple(prior * term / step_s for prior, term in zip(PRIOR, load.terms, strict=True))
    fade = math.exp(-1.0 / MEMORY)
    products = tuple(
        tuple(fade * old + z[i] * z[j] for j, old in enumerate(row)) for i, row in enumerate(pace.products)
    )
    targets = tuple(fade * old + z[i] for i, old in enumerate(pace.targets))
    shares = _solve(products, targets)
    factors = tuple(share * prior for share, prior in zip(shares, PRIOR, strict=True))
    learned = Pace(factors, pace.weight * fade + 1.0, products, targets, pace.offs)  # type: ignore[arg-type]
    line_s, offs = learned._line_s(load), list(pace.offs)
    if line_s > 0.0:
        off = min(max(step_s / line_s, 1.0 / OFF_MAX), OFF_MAX)
        offs[load.kind] *= math.exp(OFF_RATE * math.log(off / offs[load.kind]))
    return replace(learned, offs=tuple(offs))  # type: ignore[arg-type]


def _solve(products: tuple[tuple[float, ...], ...], targets: tuple[float, ...]) -> list[float]:
    """Least squares with the prior, no factor below zero: who would be is left out and the others solved again."""
    active = list(range(len(targets)))
    while True:
        matrix = [[products[i][j] + (PRIOR_WEIGHT if i == j else 0.0) for j in active] for i in active]
        found = _eliminate(matrix, [targets[i] + PRIOR_WEIGHT for i in active])
        kept = [i for i, share in zip(active, found, strict=True) if share > 0.0]
        if len(kept) == len(active):
            shares = [0.0] * len(targets)
            for i, share in zip(active, found, strict=True):
                shares[i] = share
            return shares
        active = kept


def _eliminate(matrix: list[list[float]], right: list[float]) -> list[float]:
    """Solve a symmetric, positive definite system in place; no pivots are needed."""
    num = len(right)
    for k in range(num):
        for i in range(k + 1, num):
            ratio = matrix[i][k] / matrix[k][k]
            for j in range(k, num):
                matrix[i][j] -= ratio * matrix[k][j]
            right[i] -= ratio * right[k]
    for k in reversed(range(num)):
        right[k] = (right[k] - sum(matrix[k][j] * right[j] for j in range(k + 1, num))) / matrix[k][k]
    return right
