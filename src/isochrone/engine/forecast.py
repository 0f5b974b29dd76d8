"""When each prompt in the queue will have its first token, if nobody else comes: a walk through the coming steps.

    queue, in order of service   E ──────── F ── G ────►     a prompt takes its own seconds, and those of the tokens
    decoding                     A A A A                     that the streams beside it draw in the same steps; then it
                                 B B                         decodes too.  Who needs a slot or pages waits, in pure
                                 C C C C C C                 decode, for the next that finishes.

The steps of a prompt take what `chunking` allows: the calm rate, or the fastest when the prompt is dated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from isochrone.predict.pace import Pace, StepLoad

from .chunking import ITL_SHARE, NUM_CHUNK_MIN, STRETCH, URGENT_ITL_S_MAX


@dataclass(frozen=True, slots=True)
class Decoding:
    """A stream.  depth  positions cached;  num_left  tokens it is expected to draw still;  num_pages  to be set free"""

    depth: int
    num_left: int
    num_pages: int


@dataclass(frozen=True, slots=True)
class Queued:
    """A prompt to be computed.

    start, num_tokens  positions cached, and those to compute
    num_answer   tokens it is expected to draw then
    num_pages    that it must find (0 and is_in when it has its slot and pages already)
    """

    start: int
    num_tokens: int
    num_answer: int
    num_pages: int
    is_in: bool = False


@dataclass(frozen=True, slots=True)
class Room:
    """What the engine has.  itl_s  the least that a stream stated, infinite when none did"""

    num_slots: int
    num_pages_free: int
    itl_s: float = math.inf
    has_unstated: bool = True


def forecast(
    queue: Sequence[Queued], decoding: Sequence[Decoding], room: Room, pace: Pace, *, urgent: bool
) -> list[float]:
    """Seconds from now to the first token of each in the queue."""
    walk = _Walk(decoding, room, pace, num_in=sum(queued.is_in for queued in queue))
    return [walk.serve(queued, urgent) for queued in queue]


class _Walk:
    """The engine as it will be, step after step; streams finish in the order of their numbers of tokens left."""

    def __init__(self, decoding: Sequence[Decoding], room: Room, pace: Pace, num_in: int) -> None:
        self._pace, self._room = pace, room
        self._at_s, self._num_steps = 0.0, 0.0
        self._ends = [(float(max(1, s.num_left)), s.num_pages) for s in decoding]
        heapify(self._ends)
        self._depth = sum(s.depth for s in decoding) / len(decoding) if decoding else 0.0
        self._num_slots = room.num_slots - len(decoding) - num_in
        self._num_pages = room.num_pages_free

    def serve(self, queued: Queued, urgent: bool) -> float:
        """Let this prompt through; when its first token comes."""
        if not queued.is_in:
            self._wait_for_room(queued.num_pages)
            self._num_slots -= 1
            self._num_pages -= queued.num_pages
        own_s = self._pace.prompt_s(queued.start, queued.num_tokens)
        base_s = self._base_s()
        if self._ends:
            steps = queued.num_tokens / NUM_CHUNK_MIN
            extra_s = self._allowed_s(base_s, urgent) - base_s
            if extra_s > 0.0:
                steps = min(steps, own_s / extra_s)
            steps = max(1.0, steps)
        else:
            steps, base_s = 1.0, self._pace.step_s(StepLoad(0, 1, 0))
        self._at_s += own_s + steps * base_s
        self._num_steps += steps
        self._finish()
        depth = queued.start + queued.num_tokens
        self._depth += (depth - self._depth) / (len(self._ends) + 1)
        heappush(self._ends, (self._num_steps + max(1, queued.num_answer), queued.num_pages))
        return self._at_s

    def _wait_for_room(self, num_pages: int) -> None:
        """Pure decode until a slot is free, and the pages, with one to spare for each stream."""
        while self._ends and (self._num_slots < 1 or num_pages + len(self._ends) > self._num_pages):
            end, _ = self._ends[0]
            self._at_s += max(0.0, end - self._num_steps) * self._base_s()
            self._num_steps = max(self._num_steps, end)
            self._finish()

    def _finish(self) -> None:
        while self._ends and self._ends[0][0] <= self._num_steps:
            self._num_pages += heappop(self._ends)[1]
            self._num_slots += 1

    def _base_s(self) -> float:
        num = len(self._ends)
        return self._pace.step_s(StepLoad(num, num, num * self._depth)) if num else 0.0

    def _allowed_s(self, base_s: float, urgent: bool) -> float:
        stated_s = self._room.itl_s * ITL_SHARE
        if not self._room.has_unstated:
            return stated_s
        calm_s = STRETCH * base_s
        return min(stated_s, max(URGENT_ITL_S_MAX, calm_s) if urgent else calm_s)
