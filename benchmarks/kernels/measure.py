"""Times of several functions that do the same work, turn by turn, so that a noisy neighbour hits all alike."""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from .build import Function

ROUND_S = 0.02
"""How long one turn aims to take."""


@dataclass(frozen=True, slots=True)
class Work:
    """One call: the addresses of its tables, and how many items it has."""

    ctx: int
    args: int
    num_items: int


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of one call over all rounds."""

    best_s: float
    median_s: float


class Crew:
    """Threads pinned to cores of their own, which share the items of a call."""

    def __init__(self, cpus: Sequence[int]) -> None:
        self.cpus = tuple(cpus)
        self._threads = ThreadPoolExecutor(len(cpus), thread_name_prefix="bench")

    def seconds(self, function: Function, work: Work, repeats: int) -> float:
        """Wall time of `repeats` calls, from the first start to the last end."""
        gate, count = threading.Barrier(len(self.cpus)), len(self.cpus)

        def part(index: int) -> tuple[float, float]:
            os.sched_setaffinity(0, {self.cpus[index]})
            begin, end = (work.num_items * i // count for i in (index, index + 1))
            gate.wait()
            began_at = time.perf_counter()
            for _ in range(repeats):
                function(work.ctx, work.args, begin, end, index)
            return began_at, time.perf_counter()

        spans = list(self._threads.map(part, range(count)))
        return max(end for _, end in spans) - min(begin for begin, _ in spans)

    def close(self) -> None:
        self._threads.shutdown()


def take_turns(crew: Crew, functions: Mapping[str, Function], work: Work, num_rounds: int) -> dict[str, Timing]:
    """Every function in every round; the order rotates."""
    repeats = {}
    for name, function in functions.items():
        crew.seconds(function, work, 1)  # touches the memory
        repeats[name] = max(1, round(ROUND_S / crew.seconds(function, work, 1)))
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    names = list(functions)
    for turn in range(num_rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            seconds[name].append(crew.seconds(functions[name], work, repeats[name]) / repeats[name])
    return {name: Timing(min(times), statistics.median(times)) for name, times in seconds.items()}
