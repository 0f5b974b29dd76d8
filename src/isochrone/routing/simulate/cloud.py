"""A managed cloud in the simulator, seen as its customers see it: no queue to look at, quotas, moods, slow tails."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .noise import Luck, drift

DRIFT_STEP_S = 2.0


@dataclass(frozen=True, slots=True)
class CloudSpec:
    """start_s        median to the first token of an empty prompt, without network;  scatter: of its logarithm
    prompt_s       of one token of the prompt
    itl_s          median between tokens;  itl_scatter: of its logarithm, by request
    tail_share     of requests whose start takes tail_factor times as long
    failing_share  of requests that end in a server's error before the first token
    mood           standard deviation of the logarithm of how slow the service is, over minutes
    requests_per_min, tokens_per_min   quotas; more is refused at once
    cache_s        how long a prompt's blocks stay in the provider's cache;  cache_share: how often that works
    """

    start_s: float
    prompt_s: float
    itl_s: float
    scatter: float = 0.25
    itl_scatter: float = 0.2
    tail_share: float = 0.015
    tail_factor: float = 5.0
    failing_share: float = 0.003
    mood: float = 0.25
    mood_s: float = 60.0
    requests_per_min: float = 600.0
    tokens_per_min: float = 400_000.0
    cache_s: float = 300.0
    cache_share: float = 0.7


class Cloud:
    """One model at one provider's region.  index  among the places, for its luck"""

    def __init__(self, spec: CloudSpec, luck: Luck, index: int, seed: int, length_s: float) -> None:
        self.spec, self._luck, self._index = spec, luck, index
        self._mood: NDArray[np.float64] = drift(
            seed, length_s=length_s, step_s=DRIFT_STEP_S, volatility=spec.mood, memory_s=spec.mood_s
        )
        self.requests = Quota(spec.requests_per_min)
        self.tokens = Quota(spec.tokens_per_min)

    def times(self, request: int, attempt: int, num_prompt: float, now: float) -> tuple[float, float] | None:
        """Seconds to the first token without network, and between tokens; None: it fails after its start."""
        spec, luck, place = self.spec, self._luck, self._index
        mood = float(self._mood[min(int(now / DRIFT_STEP_S), len(self._mood) - 1)])
        start_s = spec.start_s * mood * math.exp(spec.scatter * luck.normal(request, attempt, place, 0))
        dice = luck.even(request, attempt, place, 0)
        if dice < spec.failing_share:
            return None
        if dice < spec.failing_share + spec.tail_share:
            start_s *= spec.tail_factor
        itl_s = spec.itl_s * math.sqrt(mood) * math.exp(spec.itl_scatter * luck.normal(request, attempt, place, 1))
        return start_s + num_prompt * spec.prompt_s * mood, itl_s

    def is_cached(self, request: int, attempt: int) -> bool:
        """Whether the provider's cache works for this request."""
        return self._luck.even(request, attempt, self._index, 1) < self.spec.cache_share

    def has_room(self, num_tokens: int, now: float) -> bool:
        return self.requests.left(now) >= 1.0 and self.tokens.left(now) >= num_tokens

    def take(self, num_tokens: int, now: float) -> None:
        self.requests.take(1.0, now)
        self.tokens.take(num_tokens, now)

    def headroom(self, now: float) -> float:
        """Share of the quota that is left."""
        return min(self.requests.left(now) / self.requests.burst, self.tokens.left(now) / self.tokens.burst)


class Quota:
    """A bucket that fills by the minute and holds a quarter of one."""

    def __init__(self, per_min: float) -> None:
        self.burst = per_min / 4.0
        self._rate = per_min / 60.0
        self._left, self._at = self.burst, 0.0

    def left(self, now: float) -> float:
        return min(self.burst, self._left + (now - self._at) * self._rate)

    def take(self, much: float, now: float) -> None:
        self._left, self._at = self.left(now) - much, now
