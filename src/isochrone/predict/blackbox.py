"""What a place takes, learned from outside: from what we sent there, how busy we kept it, and when it answered.

    time to first token = network + start + prompt · a + queue · b + in flight · c (piecewise) + others waiting · d
                          + what the longest silence there exceeds all that by · g
    time between tokens = e + in flight · f (piecewise)

Each factor begins at a prior (a profile of our own engine, a provider's documents, or plain caution) and is corrected
by a Kalman filter on *relative* errors, so that 0.1 s and 10 s teach equally; factors stay positive, so that more work
never looks quicker.  A level that forgets within a minute follows drift.  How far real times scatter around that is
followed as quantiles (`calibration.tracked`).

All targets live in the rows of a few arrays, so that a decision over twenty costs a handful of NumPy calls.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .calibration import LEVELS, tracked

Array = NDArray[np.float64]
Rows = NDArray[np.intp]

KNEES = (8.0, 32.0)
"""Requests in flight at which the curve may bend upward, where nobody says how many run at once."""
NUM_TTFT, NUM_ITL = 9, 4
SILENCE = 8
"""Which factor is the silence's: it counts only what the others do not explain."""
ANSWER_TOKENS = 150.0
"""Of a usual answer: so long holds a slot, before more is known."""
NOISE = 0.25
"""Relative scatter of one observation that the filter expects."""
DRIFT = 0.01
"""Share of its prior by which a factor may move from one observation to the next."""
OFF_MAX = 1.5
"""One observation teaches no more than this relative error: a suspended machine is no price."""
LEVEL_RATE, LEVEL_S = 0.15, 60.0
"""Weight of the newest observation in a target's level, and the seconds after which a level is forgotten to 1/e."""
FAILURE_RATE, FAILURE_S = 0.03, 30.0
"""The same for the share of requests that fail."""
QUEUED_SHARE = 0.25
"""Prompts that go first count as a queue from this share of a prompt on."""
TTFT, ITL, TOTAL = 0, 1, 2
SCORES = np.array([-1.2815516, 0.0, 1.2815516, 2.3263479])
"""Standard scores of calibration.LEVELS."""
_SCORE_STEPS = SCORES[1:] - SCORES[:-1]


@dataclass(frozen=True, slots=True)
class Prior:
    """What is believed of a target before it is known.

    start_s       to the first token of an empty prompt, without network
    prompt_s      of one token of the prompt;  queued_s: of one token of other prompts before it; None: the same
    request_s     of each request beside it
    itl_s         between tokens, alone;  itl_request_s: more for each request beside it; None: a thirtieth of itl_s
    slots         requests that run at once, where that is known: more wait until one ends
    spread        standard deviation of the logarithm: 0.7 is a factor of two either way
    """

    start_s: float = 0.4
    prompt_s: float = 1.5e-4
    queued_s: float | None = None
    request_s: float = 0.02
    itl_s: float = 0.03
    itl_request_s: float | None = None
    spread: float = 0.7
    slots: int | None = None


CAUTIOUS = Prior()


@dataclass(frozen=True, slots=True)
class Load:
    """What a target had before it when a request was sent.

    num_prompt     tokens of the prompt that no cache held
    num_silent, silent_prompt  our requests there without a first token yet, and tokens of their prompts
    num_in_flight  all our requests there;  num_others: requests of others that wait there
    silent_s       how long the oldest of those without a first token has waited
    """

    num_prompt: float
    silent_prompt: float = 0.0
    num_in_flight: float = 0.0
    num_others: float = 0.0
    silent_s: float = 0.0


class BlackBox:
    """Everything that is known of all targets; each has a row, handed out by `add`."""

    def __init__(self, capacity: int = 32) -> None:
        self.size = 0
        self._allocate(capacity)

    def _allocate(self, capacity: int) -> None:
        fields = {
            "ttft": (NUM_TTFT,), "itl": (NUM_ITL,), "ttft_cov": (NUM_TTFT, NUM_TTFT), "itl_cov": (NUM_ITL, NUM_ITL),
            "ttft_prior": (NUM_TTFT,), "itl_prior": (NUM_ITL,), "knots": (2, 3, len(LEVELS)), "level": (2,),
            "failing": (), "seen_at": (), "failed_at": (), "num_seen": (), "trust": (), "knees": (2,),
            "ttft_floor": (NUM_TTFT,), "itl_floor": (NUM_ITL,),
            "num_scattered": (2, 3),
        }  # fmt: skip
        for name, shape in fields.items():
            fresh = np.zeros((capacity, *shape))
            if self.size:
                fresh[: self.size] = getattr(self, name)[: self.size]
            setattr(self, name, fresh)

    ttft: Array
    itl: Array
    ttft_cov: Array
    itl_cov: Array
    ttft_prior: Array
    itl_prior: Array
    knots: Array
    level: Array
    failing: Array
    seen_at: Array
    failed_at: Array
    num_seen: Array
    num_scattered: Array
    ttft_floor: Array
    itl_floor: Array
    trust: Array
    knees: Array

    def add(self, prior: Prior = CAUTIOUS) -> int:
        """A row for a new target."""
        if self.size == len(self.num_seen):
            self._allocate(2 * self.size)
        row, self.size = self.size, self.size + 1
        self.reset(row, prior)
        return row

    def reset(self, row: int, prior: Prior) -> None:
        """Forget what a row has learned."""
        queued_s = prior.prompt_s if prior.queued_s is None else prior.queued_s
        beside_s = prior.itl_s / 30.0 if prior.itl_request_s is None else prior.itl_request_s
        request_s, prompt_s = max(prior.request_s, 1e-4), max(prior.prompt_s, 1e-7)
        self.ttft_prior[row] = (
            max(prior.start_s, 1e-3), 1e3 * prompt_s, 1e3 * max(queued_s, 1e-7), request_s, request_s, request_s,
            max(prior.start_s * 0.5, 0.02), 0.1 * 1e3 * prompt_s, 0.5,
        )  # fmt: skip
        self.knees[row] = KNEES if prior.slots is None else (prior.slots, 2.0 * prior.slots)
        self.itl_prior[row] = (max(prior.itl_s, 1e-4), *(3 * [max(beside_s, 1e-6)]))
        for theta, cov, scale in self._filters(row):
            theta[:] = scale
            cov[:] = np.diag((prior.spread * scale) ** 2)
        self.ttft_floor[row] = self.itl_floor[row] = 0.0
        self.ttft_floor[row, 0], self.itl_floor[row, 0] = 0.02 * self.ttft_prior[row, 0], 0.02 * self.itl_prior[row, 0]
        self.ttft[row, 4:6] = self.itl[row, 2:] = 0.0
        if prior.slots is not None:
            drain_s = ANSWER_TOKENS * (prior.itl_s + beside_s * prior.slots) / prior.slots
            self.ttft[row, 4] = self.ttft_prior[row, 4] = drain_s
            self.ttft_cov[row, 4, 4] = (prior.spread * drain_s) ** 2
            # A full machine serves in order: a new request waits about as long as the oldest has.  Learned from
            # outcomes alone, both would be too small for as long as it takes the first late ones to come.
            self.ttft_floor[row, 4], self.ttft[row, SILENCE], self.ttft_floor[row, SILENCE] = 0.5 * drain_s, 1.0, 0.9
        self.knots[row] = prior.spread * SCORES
        self.knots[row, :, ITL:] = 0.6 * prior.spread * SCORES
        self.level[row] = self.num_scattered[row] = 0.0
        self.trust[row] = 1.0 / max(prior.spread, 0.05) ** 2
        self.failing[row] = self.num_seen[row] = self.seen_at[row] = self.failed_at[row] = 0.0

    def _filters(self, row: int) -> tuple[tuple[Array, Array, Array], ...]:
        return (
            (self.ttft[row], self.ttft_cov[row], self.ttft_prior[row]),
            (self.itl[row], self.itl_cov[row], self.itl_prior[row]),
        )

    def medians(self, rows: Rows, loads: Array, now: float) -> tuple[Array, Array]:
        """Time to first token without network, and between tokens: f64 [targets] each.

        loads  f64 [5, targets]: the fields of Load in their order
        """
        prompt, queued, in_flight = loads[0] * 1e-3, loads[1] * 1e-3, loads[2]
        terms = np.empty((len(rows), NUM_TTFT))
        terms[:, 0] = 1.0
        terms[:, 1] = prompt
        terms[:, 2] = queued
        terms[:, 3] = in_flight
        np.maximum(in_flight[:, None] + 1.0 - self.knees[rows], 0.0, out=terms[:, 4:6])
        terms[:, 6] = loads[3]
        terms[:, 7] = (prompt + queued) * in_flight
        factors = self.ttft[rows]
        ttft = (factors[:, :SILENCE] * terms[:, :SILENCE]).sum(1)
        ttft += factors[:, SILENCE] * np.maximum(loads[4] - ttft, 0.0)
        terms[:, 2] = 1.0
        itl = (self.itl[rows] * terms[:, 2:6]).sum(1)
        fading = np.exp((self.seen_at[rows] - now) * (1.0 / LEVEL_S))
        factors = np.exp(self.level[rows] * np.minimum(fading, 1.0)[:, None])
        return ttft * factors[:, 0], itl * factors[:, 1]

    def scatter(self, rows: Rows, loads: Array) -> Array:
        """Quantiles of the scatter that fit how busy each is: f64 [targets, 3 kinds, 4]."""
        busy = (loads[1] > QUEUED_SHARE * loads[0]) | (loads[3] > 0.0) | (loads[2] >= self.knees[rows, 0])
        knots: Array = self.knots[rows, busy.astype(np.intp)]
        return knots

    def is_busy(self, row: int, load: Load) -> bool:
        """Whether others go first: times scatter more then, and are followed apart."""
        is_queued = load.silent_prompt > QUEUED_SHARE * load.num_prompt or load.num_others > 0.0
        return bool(is_queued or load.num_in_flight >= self.knees[row, 0])

    def empty(self, rows: Rows, num_prompts: Array) -> Array:
        """Time to first token where nothing else runs, without network: how fast a place is made, f64 [targets]."""
        ttft: Array = self.ttft[rows, 0] + self.ttft[rows, 1] * (num_prompts * 1e-3)
        return ttft

    def median(self, row: int, load: Load, now: float) -> tuple[float, float]:
        """`medians` of one target, in plain numbers: a twentieth of the time that arrays of one take."""
        start, by_prompt, by_queue, by_request, by_low, by_high, by_other, by_both, by_silence = self.ttft[row].tolist()
        base, by_each, at_low, at_high = self.itl[row].tolist()
        low, high = self.knees[row].tolist()
        prompt, queued, each = load.num_prompt * 1e-3, load.silent_prompt * 1e-3, load.num_in_flight
        over_low, over_high = max(0.0, each + 1.0 - low), max(0.0, each + 1.0 - high)
        ttft = start + by_prompt * prompt + by_queue * queued + by_request * each + by_low * over_low
        ttft += by_high * over_high + by_other * load.num_others + by_both * (prompt + queued) * each
        ttft += by_silence * max(load.silent_s - ttft, 0.0)
        itl = base + by_each * each + at_low * over_low + at_high * over_high
        fading = math.exp(min(0.0, (float(self.seen_at[row]) - now) / LEVEL_S))
        ttft_level, itl_level = self.level[row].tolist()
        return ttft * math.exp(ttft_level * fading), itl * math.exp(itl_level * fading)

    def knots_of(self, row: int, load: Load) -> list[list[float]]:
        """`scatter` of one target, in plain numbers: [3 kinds][4]."""
        knots: list[list[float]] = self.knots[row, int(self.is_busy(row, load))].tolist()
        return knots

    def failure(self, row: int, now: float) -> float:
        """`failures` of one target, in plain numbers."""
        fading = math.exp(min(0.0, (float(self.failed_at[row]) - now) * (1.0 / FAILURE_S)))
        return min(float(self.failing[row]) * fading, 0.99)

    def empty_of(self, row: int, num_prompt: float) -> float:
        """`empty` of one target, in plain numbers."""
        return float(self.ttft[row, 0]) + float(self.ttft[row, 1]) * (num_prompt * 1e-3)

    def trust_of(self, row: int) -> float:
        """Outcomes learned from, and what the prior counts as."""
        return float(self.num_seen[row]) + float(self.trust[row])

    def failures(self, rows: Rows, now: float) -> Array:
        """Share of requests that fail, as far as is known: f64 [targets]."""
        fading: Array = np.exp(np.minimum((self.failed_at[rows] - now) * (1.0 / FAILURE_S), 0.0))
        return np.minimum(self.failing[rows] * fading, 0.99)

    def saw_end(self, row: int, *, failed: bool, now: float) -> None:
        """A request ended there, in an answer or in a failure."""
        failing = self.failing[row] * math.exp(min(0.0, (self.failed_at[row] - now) / FAILURE_S))
        self.failing[row] = failing + FAILURE_RATE * (float(failed) - failing)
        self.failed_at[row] = now

    def saw_ttft(
        self, row: int, load: Load, *, network_s: float, actual_s: float, now: float, stated_s: float | None = None
    ) -> None:
        """A first token came after so long.  stated_s  `median` as it was, where that is known"""
        if stated_s is None:
            stated_s, _ = self.median(row, load, now)
        self._scatter(row, load, TTFT, math.log(max(actual_s, 1e-5) / (stated_s + network_s)))
        self._learn(row, TTFT, self._ttft_terms(row, load), max(actual_s - network_s, 0.05 * actual_s, 1e-5), now)
        self.num_seen[row] += 1.0
        self.seen_at[row] = now

    def saw_silence(self, row: int, load: Load, *, network_s: float, silent_s: float, now: float) -> None:
        """No first token came for so long, and then nobody waited any more."""
        stated_s, _ = self.median(row, load, now)
        residual = math.log(max(silent_s, 1e-5) / (stated_s + network_s))
        self._scatter(row, load, TTFT, residual, at_least=True)
        if residual > self.knots[row, int(self.is_busy(row, load)), TTFT, 2]:
            self._learn(row, TTFT, self._ttft_terms(row, load), max(silent_s - network_s, 1e-5), now)
            self.seen_at[row] = now

    def saw_itl(self, row: int, load: Load, *, actual_s: float, now: float) -> None:
        """The mean time between tokens of an answer."""
        _, stated_s = self.median(row, load, now)
        self._scatter(row, load, ITL, math.log(max(actual_s, 1e-6) / stated_s))
        self._learn(row, ITL, self._itl_terms(row, load), max(actual_s, 1e-6), now)

    def saw_total(self, row: int, load: Load, *, stated_s: float, actual_s: float) -> None:
        """A whole answer, beside what was stated once its length was known."""
        self._scatter(row, load, TOTAL, math.log(max(actual_s, 1e-5) / max(stated_s, 1e-5)))

    def _scatter(self, row: int, load: Load, kind: int, residual: float, *, at_least: bool = False) -> None:
        at = row, int(self.is_busy(row, load)), kind
        knots: Sequence[float] = self.knots[at].tolist()
        self.knots[at] = tracked(knots, residual, num_seen=int(self.num_scattered[at]), at_least=at_least)
        self.num_scattered[at] += 1.0

    def _ttft_terms(self, row: int, load: Load) -> Array:
        prompt, queued, in_flight = load.num_prompt * 1e-3, load.silent_prompt * 1e-3, load.num_in_flight
        low, high = self.knees[row].tolist()
        terms = np.array([
            1.0, prompt, queued, in_flight, max(0.0, in_flight + 1.0 - low), max(0.0, in_flight + 1.0 - high),
            load.num_others, (prompt + queued) * in_flight, 0.0,
        ])  # fmt: skip
        terms[SILENCE] = max(0.0, load.silent_s - float(self.ttft[row] @ terms))
        return terms

    def _itl_terms(self, row: int, load: Load) -> Array:
        in_flight = load.num_in_flight
        low, high = self.knees[row].tolist()
        return np.array([1.0, in_flight, max(0.0, in_flight + 1.0 - low), max(0.0, in_flight + 1.0 - high)])

    def _learn(self, row: int, kind: int, terms: Array, actual_s: float, now: float) -> None:
        theta, cov, prior = self._filters(row)[kind]
        stated_s = max(float(theta @ terms), 1e-6)
        off = min(max(actual_s / stated_s - 1.0, -OFF_MAX), OFF_MAX)
        fading = min(1.0, math.exp((self.seen_at[row] - now) / LEVEL_S))
        level = self.level[row, kind] * fading
        self.level[row, kind] = level + LEVEL_RATE * (math.log1p(max(off, -0.95)) - level)
        scaled = terms / stated_s
        gain = cov @ scaled
        gain /= NOISE**2 + float(scaled @ gain)
        theta += gain * off
        np.maximum(theta, self.ttft_floor[row] if kind == TTFT else self.itl_floor[row], out=theta)
        cov -= gain[:, None] * (scaled @ cov)
        diagonal = cov.reshape(-1)[:: len(gain) + 1]
        diagonal += (DRIFT * prior) ** 2
        np.minimum(diagonal, prior**2, out=diagonal)


def chance(log_ratios: Array, knots: Array) -> Array:
    """Probability that a time is at most exp(log_ratio) times its median, by the quantiles of its scatter.

    log_ratios  f64 of any shape;  knots: the same shape and four more at the end, log ratios at LEVELS
    Between knots the standard score is linear, beyond them it goes on as it went.
    """
    steps = knots[..., 1:] - knots[..., :-1]
    slopes = _SCORE_STEPS / steps
    over = log_ratios - knots[..., 1]
    beyond = over - steps[..., 1]
    scores = np.minimum(over, 0.0) * slopes[..., 0]
    scores += np.minimum(np.maximum(over, 0.0), steps[..., 1]) * slopes[..., 1]
    scores += np.maximum(beyond, 0.0) * slopes[..., 2]
    return _normal(scores)


def _normal(scores: Array) -> Array:
    """Distribution function of the normal distribution, within 0.0002 (Bowling et al. 2009)."""
    scores = np.minimum(np.maximum(scores, -6.0), 6.0)
    result: Array = 1.0 / (1.0 + np.exp(-scores * (1.5976 + 0.07056 * scores * scores)))
    return result


def chance_of_one(log_ratio: float, knots: Sequence[float]) -> float:
    """`chance` of a single time, without arrays."""
    if log_ratio < knots[1]:
        score = (log_ratio - knots[1]) * -SCORES_LIST[0] / (knots[1] - knots[0])
    elif log_ratio < knots[2]:
        score = (log_ratio - knots[1]) * SCORES_LIST[2] / (knots[2] - knots[1])
    else:
        slope = (SCORES_LIST[3] - SCORES_LIST[2]) / (knots[3] - knots[2])
        score = SCORES_LIST[2] + (log_ratio - knots[2]) * slope
    score = min(6.0, max(-6.0, score))
    return 1.0 / (1.0 + math.exp(-score * (1.5976 + 0.07056 * score * score)))


SCORES_LIST: tuple[float, ...] = tuple(SCORES.tolist())
