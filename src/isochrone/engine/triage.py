"""Which of the dated prompts to give up, so that as many as possible of the others begin in time: one pure function.

Served by earliest deadline, a queue that cannot be kept is late from its head to its end: each prompt waits for one
that is lost already.  Moore (1968) and Hodgson: go by deadline, and whenever somebody would be late put off the one
that takes longest.  No other choice lets more of them make it, when all are here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from heapq import heappush, heappushpop


@dataclass(frozen=True, slots=True)
class Job:
    """A prompt still to be computed.  work_s  what is left of it;  due_at  when its first token is owed"""

    id: int
    work_s: float
    due_at: float


def choose_late(jobs: Iterable[Job], now: float) -> tuple[int, ...]:
    """The fewest jobs that must be put off for all others to be in time when served by deadline, in order of id."""
    kept: list[tuple[float, int]] = []  # the longest first
    late: list[int] = []
    at = now
    for job in sorted(jobs, key=lambda job: (job.due_at, job.id)):
        at += job.work_s
        if at <= job.due_at:
            heappush(kept, (-job.work_s, -job.id))
            continue
        longest_s, longest = heappushpop(kept, (-job.work_s, -job.id))
        at += longest_s
        late.append(-longest)
    return tuple(sorted(late))
