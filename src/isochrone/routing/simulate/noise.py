"""Chance, drawn before the run: what a request meets at a place depends on both and on the seed, not on who else ran.

So every policy meets the same luck where it makes the same choice, and the oracle can look it up.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class Luck:
    """Numbers for each (request, attempt, place): two normal ones and one even one."""

    def __init__(self, seed: int, num_requests: int, num_places: int) -> None:
        draw = np.random.default_rng(seed)
        self._num = num_requests
        self._normal: NDArray[np.float64] = draw.standard_normal((num_requests, num_places, 3))
        self._even: NDArray[np.float64] = draw.random((num_requests, num_places, 2))

    def normal(self, request: int, attempt: int, place: int, which: int) -> float:
        return float(self._normal[self._at(request, attempt), place, which])

    def even(self, request: int, attempt: int, place: int, which: int) -> float:
        return float(self._even[self._at(request, attempt), place, which])

    def _at(self, request: int, attempt: int) -> int:
        return (request + 7919 * attempt) % self._num


def drift(seed: int, *, length_s: float, step_s: float, volatility: float, memory_s: float) -> NDArray[np.float64]:
    """How slow a shared service is over time: an Ornstein-Uhlenbeck walk of the logarithm, sampled each step_s."""
    draw = np.random.default_rng(seed)
    keep = np.exp(-step_s / memory_s)
    fresh = volatility * np.sqrt(1.0 - keep * keep)
    walk = [0.0]
    for shock in draw.standard_normal(int(length_s / step_s) + 2):
        walk.append(walk[-1] * keep + fresh * shock)
    slow: NDArray[np.float64] = np.exp(np.array(walk))
    return slow
