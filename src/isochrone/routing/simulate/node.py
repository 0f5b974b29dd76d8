"""A machine of ours in the simulator: slots, one prompt at a time, all answers side by side, a prefix cache.

Work is fluid between events.  While n answers are written, each gains a token every itl_s · (1 + slope · (n - 1))
seconds; a prompt in progress slows them by `mix`, and they slow the prompt by `mix` each n / slots.  Everything is
plain data, so that an oracle can copy a node and run it ahead.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass

Event = tuple[float, bool, int]
"""(when, whether it is the first token and not the end, which job)"""


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """prompt_per_s  tokens of a prompt, alone;  itl_s: of a lone answer;  slope: more for each answer beside it
    slots          requests that run at once; others wait in order of arrival
    cache_blocks   of prompts, least recently used go first
    """

    prompt_per_s: float
    itl_s: float
    slots: int
    slope: float = 0.03
    mix: float = 0.5
    start_s: float = 0.01
    cache_blocks: int = 2000


@dataclass(frozen=True, slots=True)
class Job:
    """id  of the attempt;  num_prompt: tokens that are not cached;  num_answer: tokens"""

    id: int
    num_prompt: float
    num_answer: int


class Node:
    """One machine."""

    def __init__(self, spec: NodeSpec) -> None:
        self.spec = spec
        self.now = 0.0
        self.waiting: deque[Job] = deque()
        self.prompt: Job | None = None
        self.prompt_left = 0.0
        self.writing: list[tuple[float, int, Job]] = []
        self.written = 0.0

    def copy(self) -> Node:
        twin = Node.__new__(Node)
        twin.spec, twin.now, twin.waiting = self.spec, self.now, self.waiting.copy()
        twin.prompt, twin.prompt_left = self.prompt, self.prompt_left
        twin.writing, twin.written = self.writing.copy(), self.written
        return twin

    @property
    def num_running(self) -> int:
        return len(self.writing) + (self.prompt is not None)

    def add(self, job: Job) -> None:
        """To the end of the queue, now."""
        self.waiting.append(job)
        self._admit()

    def drop(self, id: int) -> None:
        """Forget a job: its caller has hung up."""
        self.waiting = deque(job for job in self.waiting if job.id != id)
        if self.prompt is not None and self.prompt.id == id:
            self.prompt = None
        self.writing = [entry for entry in self.writing if entry[2].id != id]
        heapq.heapify(self.writing)
        self._admit()

    def clear(self) -> list[int]:
        """Lose everything; says what was lost."""
        lost = [job.id for job in self.waiting] + [entry[2].id for entry in self.writing]
        if self.prompt is not None:
            lost.append(self.prompt.id)
        self.waiting, self.prompt, self.writing = deque(), None, []
        return lost

    def next_at(self) -> float | None:
        """When something happens next, if nothing is added."""
        soonest = None
        if self.prompt is not None:
            soonest = self.now + self.prompt_left / self._prompt_rate()
        if self.writing:
            end = self.now + max(0.0, self.writing[0][0] - self.written) / self._writing_rate()
            soonest = end if soonest is None or end < soonest else soonest
        return soonest

    def advance(self, to: float) -> list[Event]:
        """Go on to an instant; says what happened until then."""
        events: list[Event] = []
        while True:
            when = self.next_at()
            if when is None or when > to:
                self._flow(to)
                return events
            is_prompt = (
                self.prompt is not None and self.now + self.prompt_left / self._prompt_rate() <= when
            )
            self._flow(when)
            if is_prompt:
                assert self.prompt is not None  # is_prompt says so
                job, self.prompt = self.prompt, None
                events.append((when, True, job.id))
                if job.num_answer > 1:
                    heapq.heappush(self.writing, (self.written + job.num_answer - 1, job.id, job))
                else:
                    events.append((when, False, job.id))
            else:
                events.append((when, False, heapq.heappop(self.writing)[2].id))
            self._admit()

    def _admit(self) -> None:
        if self.prompt is None and self.waiting and len(self.writing) < self.spec.slots:
            self.prompt = self.waiting.popleft()
            self.prompt_left = self.prompt.num_prompt

    def _flow(self, to: float) -> None:
        seconds = to - self.now
        if seconds > 0.0:
            if self.writing:
                self.written += seconds * self._writing_rate()
            if self.prompt is not None:
                self.prompt_left = max(0.0, self.prompt_left - seconds * self._prompt_rate())
        self.now = max(self.now, to)

    def _prompt_rate(self) -> float:
        return self.spec.prompt_per_s / (1.0 + self.spec.mix * len(self.writing) / self.spec.slots)

    def _writing_rate(self) -> float:
        step_s = self.spec.itl_s * (1.0 + self.spec.slope * (len(self.writing) - 1))
        return 1.0 / (step_s * (1.0 + self.spec.mix) if self.prompt is not None else step_s)


class PrefixCache:
    """Blocks of prompts, least recently used go first; with a lifetime where one is given."""

    def __init__(self, num_blocks: int, keep_s: float | None = None) -> None:
        self._num, self._keep_s = num_blocks, keep_s
        self._seen: OrderedDict[int, float] = OrderedDict()

    def held(self, blocks: Sequence[int], now: float) -> int:
        """How many of the leading blocks are there."""
        for index, block in enumerate(blocks):
            seen_at = self._seen.get(block)
            if seen_at is None or (self._keep_s is not None and now - seen_at > self._keep_s):
                return index
        return len(blocks)

    def put(self, blocks: Sequence[int], now: float) -> None:
        seen = self._seen
        for block in blocks:
            seen[block] = now
            seen.move_to_end(block)
        while len(seen) > self._num:
            seen.popitem(last=False)

    def clear(self) -> None:
        self._seen.clear()
