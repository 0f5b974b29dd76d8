"""How others choose, from what they have published.  Each gets the same candidates and outcomes as ours, and more
than its authors gave it where that helps it: the differences are said in each docstring.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Sequence

from isochrone.routing.outlook import Outlook
from isochrone.routing.records import Ask, Candidate, Outcome, Target

from .places import MODEL, PlaceSpec
from .world import Picked


class _Baseline:
    name = ""

    def num_seen(self, target: Target) -> int:
        return 0

    def observe(self, outcome: Outcome) -> None:
        """Learns nothing unless it says so."""


class RoundRobin(_Baseline):
    """Each in its turn, over those whose breaker is closed."""

    name = "round robin"

    def __init__(self) -> None:
        self._turn = 0

    def pick(self, ask: Ask, candidates: Sequence[Candidate], now: float) -> Picked:
        self._turn += 1
        first = self._turn % len(candidates)
        return Picked([one.target for one in (*candidates[first:], *candidates[:first])])


class StaticOrder(_Baseline):
    """The operator's list, cheapest first; the next one when the one before fails or refuses.

    Kinder than the plain list: a place with as many requests as it has slots (`max_parallel_requests`) is passed over.
    """

    name = "static order"

    def __init__(self, slots: dict[str, int]) -> None:
        self._slots = slots

    def pick(self, ask: Ask, candidates: Sequence[Candidate], now: float) -> Picked:
        free = [one for one in candidates if one.num_in_flight < self._slots.get(one.place, 1 << 30)]
        return Picked([one.target for one in (free or candidates)])


class LowestLatency(_Baseline):
    """The widely used gateway's: the lowest mean of the ten latest latencies; what has none counts as zero.

    As it is now (newest samples kept; time to first token for streams): a failure by timeout counts 1,000 s, samples
    are forgotten after an hour, equals are drawn among at random.
    """

    name = "lowest latency"
    NUM_SAMPLES, PENALTY_S = 10, 1000.0

    def __init__(self, seed: int) -> None:
        self._samples: dict[Target, deque[float]] = {}
        self._draw = random.Random(seed)

    def pick(self, ask: Ask, candidates: Sequence[Candidate], now: float) -> Picked:
        shuffled = self._draw.sample(list(candidates), len(candidates))
        return Picked([one.target for one in sorted(shuffled, key=lambda one: self._mean(one.target))])

    def observe(self, outcome: Outcome) -> None:
        samples = self._samples.setdefault(outcome.target, deque(maxlen=self.NUM_SAMPLES))
        if outcome.first_at is not None:
            samples.append(outcome.first_at - outcome.sent_at)
        elif outcome.kind == "failed":
            samples.append(self.PENALTY_S)

    def _mean(self, target: Target) -> float:
        samples = self._samples.get(target)
        return sum(samples) / len(samples) if samples else 0.0


class PeakEwma(_Baseline):
    """Power of two choices over peak-sensitive averages (Finagle, tower, linkerd): of two drawn at random, the lower
    product of latency and requests pending; the average jumps to a new peak at once and decays over ten seconds.
    """

    name = "p2c peak ewma"
    DECAY_S, DEFAULT_S = 10.0, 0.03

    def __init__(self, seed: int) -> None:
        self._cost: dict[Target, tuple[float, float]] = {}
        self._draw = random.Random(seed)

    def pick(self, ask: Ask, candidates: Sequence[Candidate], now: float) -> Picked:
        pair = self._draw.sample(list(candidates), min(2, len(candidates)))
        pair.sort(key=lambda one: self._load(one, now))
        rest = sorted((one for one in candidates if one not in pair), key=lambda one: self._load(one, now))
        return Picked([one.target for one in (*pair, *rest)])

    def observe(self, outcome: Outcome) -> None:
        if outcome.kind in ("refused", "hedged_out"):
            return
        took_s = (outcome.ended_at if outcome.first_at is None else outcome.first_at) - outcome.sent_at
        average_s, at = self._cost.get(outcome.target, (self.DEFAULT_S, outcome.ended_at))
        if took_s > average_s:
            average_s = took_s
        else:
            keep = math.exp(-(outcome.ended_at - at) / self.DECAY_S)
            average_s = average_s * keep + took_s * (1.0 - keep)
        self._cost[outcome.target] = (average_s, outcome.ended_at)

    def _load(self, one: Candidate, now: float) -> float:
        average_s, at = self._cost.get(one.target, (self.DEFAULT_S, now))
        return average_s * math.exp(-(now - at) / self.DECAY_S) * (one.num_in_flight + 1)


class PrefixAware(_Baseline):
    """The cache-aware router of SGLang: to the best match of the prompt's prefix if that is more than 0.3 of it, else
    to the least loaded; and always to the least loaded while loads are out of balance.

    Kinder than its defaults: out of balance is a difference of 16 requests (published: 64, which nodes with 4 to 32
    slots never reach), with a factor of 1.5 as published; and its match forgets with the caches.
    """

    name = "prefix aware"
    MATCH, DIFFERENCE, FACTOR = 0.3, 16, 1.5

    def pick(self, ask: Ask, candidates: Sequence[Candidate], now: float) -> Picked:
        loads = [one.num_in_flight for one in candidates]
        by_load = sorted(candidates, key=lambda one: one.num_in_flight)
        is_even = max(loads) - min(loads) <= self.DIFFERENCE or max(loads) <= self.FACTOR * min(loads)
        best = max(candidates, key=lambda one: one.num_cached)
        if is_even and best.num_cached > self.MATCH * ask.num_prompt:
            return Picked([best.target, *(one.target for one in by_load if one is not best)])
        return Picked([one.target for one in by_load])


class Headroom(_Baseline):
    """Predicted latency with headroom, as llm-d's router: predict the 90th percentile of TTFT and of the time between
    tokens; of those with headroom in both take the one with the least (bin packing); 1 % of the time one without; if
    all are in deficit prefer idle ones, then the smallest deficit.

    Kinder than the original: its predictor is ours, which learns each place by itself (theirs is one model for equal
    pods, "not a fit when the pool is heterogeneous"), and a total budget counts as a time between tokens over a mean
    answer.
    """

    name = "headroom"
    EXPLORE = 0.01

    def __init__(self, fleet: Sequence[PlaceSpec], seed: int) -> None:
        self.outlook = Outlook({(spec.name, MODEL): spec.prior for spec in fleet})
        self._draw = random.Random(seed)

    def num_seen(self, target: Target) -> int:
        return self.outlook.num_seen(target)

    def observe(self, outcome: Outcome) -> None:
        self.outlook.observe(outcome)

    def pick(self, ask: Ask, candidates: Sequence[Candidate], now: float) -> Picked:
        forecast = self.outlook.see(ask, candidates, now=now)
        answer = sum(forecast.lengths) / len(forecast.lengths)
        headrooms: list[tuple[float, float]] = []
        for i in range(len(candidates)):
            ttft_s = forecast.ttft(i).p90_s
            itl_s = forecast.itl_s[i] * math.exp(forecast.knots[i][1][2])
            first_s, between_s = math.inf, math.inf
            if ask.ttft_s is not None:
                first_s = ask.ttft_s - ttft_s
            if ask.itl_s is not None:
                between_s = ask.itl_s - itl_s
            if ask.total_s is not None:
                first_s = min(first_s, ask.total_s - ttft_s - answer * itl_s)
            headrooms.append((first_s, between_s))
        combined = [self._combined(ask, pair) for pair in headrooms]
        keeps = [i for i, pair in enumerate(headrooms) if min(pair) >= 0.0]
        breaks = [i for i in range(len(candidates)) if i not in keeps]
        keeps.sort(key=lambda i: combined[i])
        breaks.sort(key=lambda i: (candidates[i].num_in_flight > 0, -combined[i]))
        if keeps and breaks and self._draw.random() < self.EXPLORE:
            order = [*breaks, *keeps]
        else:
            order = [*keeps, *breaks]
        return Picked([candidates[i].target for i in order])

    @staticmethod
    def _combined(ask: Ask, pair: tuple[float, float]) -> float:
        """Headroom as a share of the budget, four fifths TTFT's, one fifth the time between tokens' (as published)."""
        first_s, between_s = pair
        limit_s = ask.ttft_s if ask.ttft_s is not None else (ask.total_s or 60.0)
        first = min(first_s, limit_s) / limit_s
        return first if ask.itl_s is None else 0.8 * first + 0.2 * between_s / ask.itl_s
