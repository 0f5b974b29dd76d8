"""Time in the simulator: a heap of what is to happen, and nothing else moves it."""

from __future__ import annotations

import heapq
from collections.abc import Callable

Happening = Callable[[], None]


class SimulatedClock:
    """Events in order of time; those of one instant in the order in which they were asked for."""

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Happening]] = []
        self._num_asked = 0

    def at(self, when: float, happening: Happening) -> None:
        """Let something happen at an instant, never before now."""
        self._num_asked += 1
        heapq.heappush(self._heap, (max(when, self.now), self._num_asked, happening))

    def run(self) -> None:
        """Until nothing is left to happen."""
        while self._heap:
            self.now, _, happening = heapq.heappop(self._heap)
            happening()
