"""What the engine knows of its own time, and what it promises by it: who is taken, who is given up, what it learns."""

from __future__ import annotations

import math
from heapq import merge
from typing import TYPE_CHECKING

import numpy as np

from isochrone.predict.correction import Correction, learn
from isochrone.predict.pace import Pace, StepLoad, learn_step
from isochrone.runtime.step import StepBatch

from .admission import itl_too_tight, too_late
from .chunking import DUE_SHARE, streams_max, urgent_slowdown
from .records import Policy
from .roster import Roster
from .schedule import Limits, Standing, rank
from .sequence import Request, Sequence

if TYPE_CHECKING:
    from .forecast import Queued

NUM_DECODE_STEPS = 8
"""Decode steps alike of which one is learned from: the others would say the same."""
OPTIMISM = 0.85
"""Share of the predicted work that must already be too much before an admitted request is given up."""
ANSWER_RATE = 0.05
"""Weight of the newest answer in the running means of their lengths."""


class Timekeeper:
    """Asks the pure functions, with what the roster shows.

    pace    what steps take;  ttft: how far its predictions of first tokens were off
    """

    def __init__(self, limits: Limits, policy: Policy) -> None:
        self.pace, self.ttft = Pace(), Correction()
        self._limits, self._policy = limits, policy
        self._answer_share, self._answer_tokens = 0.5, 256.0
        self._num_alike, self._num_rows = 0, 0

    @property
    def told(self) -> tuple[float, ...]:
        """The pace as `EngineStats` carries it; empty until it is worth acting on."""
        pace = self.pace
        return (*pace.factors, pace.offs[2], pace.offs[0]) if pace.is_known else ()

    # Learning.

    def learn_step(self, batch: StepBatch, step_s: float) -> None:
        """A step was run."""
        num_tokens, num_rows = len(batch.token_ids), len(batch.logit_rows)
        is_alike = num_tokens == num_rows == self._num_rows
        self._num_alike = self._num_alike + 1 if is_alike else 0
        self._num_rows = num_rows
        if self._num_alike % NUM_DECODE_STEPS == 0:
            load = StepLoad(num_tokens, num_rows, float(np.add.reduce(batch.positions, dtype=np.int64)) + num_tokens)
            self.pace = learn_step(self.pace, load, step_s)

    def learn_first_token(self, sequence: Sequence, now: float) -> None:
        """A request has its first token."""
        predicted_s = sequence.request.predicted_s
        if predicted_s is not None and not sequence.num_preempted:
            arrived_at = sequence.request.submit.arrived_at
            self.ttft = learn(self.ttft, predicted_s=predicted_s, actual_s=now - arrived_at)

    def learn_answer(self, sequence: Sequence) -> None:
        """An answer has ended."""
        if sequence.num_answer_max > 0:
            share = sequence.num_answer / sequence.num_answer_max
            self._answer_share += ANSWER_RATE * (share - self._answer_share)
            self._answer_tokens += ANSWER_RATE * (sequence.num_answer - self._answer_tokens)

    def compute_s(self, start: int, num_tokens: int) -> float:
        """Seconds to compute these tokens of a prompt; nothing while nothing is known."""
        return self.pace.prompt_s(start, num_tokens) if self.pace.is_known else 0.0

    # Promising.

    def expect_timely(self, request: Request, roster: Roster, now: float) -> float | None:
        """Seconds from arrival to first token that a request just queued is predicted; None when nothing is known yet.

        Raises CannotMeet when its budget cannot be kept, or not without breaking another's.
        """
        leader = request.leader
        if leader is None or not self.pace.is_known:
            return None
        roster.cache.survey(leader)
        roster.space(request, self.pace.prompt_s(leader.standing.num_computed, leader.standing.num_left))
        if self._policy == "budget":
            self._expect_bearable(leader, roster)
        queue = self._queue(roster)
        at = queue.index(leader)
        times_s = self._forecast(queue, roster, urgent=True)
        calm_s = self._forecast(queue, roster, urgent=False)[at]
        spent_s, due_at = now - request.submit.arrived_at, leader.standing.due_at
        raw_s = spent_s + max(times_s[at], min(calm_s, (due_at - now) * DUE_SHARE))
        if due_at < math.inf and self._policy == "budget":
            late = self._late(queue, times_s, now)
            others = [sequence for sequence in queue if sequence is not leader]
            if leader in late or (late and late - self._late(others, self._forecast(others, roster, urgent=True), now)):
                last_s = self._forecast([*others, leader], roster, urgent=True)[-1]
                raise too_late(spent_s + self.ttft.apply(max(last_s, times_s[at])).s_p50, due_at - now + spent_s)
        return raw_s

    def give_up(self, roster: Roster, now: float) -> int:
        """Put off who cannot begin in time any more, so that the others can; how many."""
        if self._policy != "budget" or not self.pace.is_known:
            return 0
        dated = [s for s in roster.waiting if s.standing.due_at < math.inf]
        if not dated:
            return 0
        from .triage import Job, choose_late

        dated += [s for s in roster.running if s.standing.due_at < math.inf and s.standing.num_left > 1]
        slowdown = OPTIMISM * urgent_slowdown(self._decode_load(roster), self._itl_s(roster), self.pace)
        jobs = [
            Job(s.id, self.pace.prompt_s(s.num_computed, s.num_left) * slowdown, s.due_at)
            for s in (sequence.standing for sequence in dated)
        ]
        late = choose_late(jobs, now)
        for id in late:
            roster.put_off(roster.sequences[id])
        return len(late)

    # What the pure functions are told.

    def _expect_bearable(self, leader: Sequence, roster: Roster) -> None:
        itl_s = leader.standing.itl_s
        if itl_s < math.inf:
            depth = leader.standing.num_tokens + leader.num_answer_max * self._answer_share
            alone_s = self.pace.step_s(StepLoad(1, 1, depth))
            if streams_max(itl_s, depth, self.pace) <= len(roster.running):
                load = self._decode_load(roster)
                num = load.num_tokens + 1
                beside_s = self.pace.step_s(StepLoad(num, num, load.num_pairs + depth))
                raise itl_too_tight(itl_s, max(alone_s, beside_s), len(roster.running))

    def _queue(self, roster: Roster) -> list[Sequence]:
        prefilling = [s for s in roster.running if s.standing.num_left > 1 and not s.standing.has_begun]
        waiting = [s for s in roster.waiting if not s.standing.is_held_back]
        return list(merge(prefilling, waiting, key=lambda s: rank(s.standing)))

    def _forecast(self, queue: list[Sequence], roster: Roster, *, urgent: bool) -> list[float]:
        from .forecast import Decoding, Room, forecast  # a first request is alone, and nothing to foresee

        decoding = [
            Decoding(s.standing.num_computed, self._num_left(s), s.standing.num_pages)
            for s in roster.running
            if s.standing.num_left <= 1 or s.standing.has_begun
        ]
        itl_s = self._itl_s(roster)
        has_unstated = any(s.standing.itl_s == math.inf for s in roster.running)
        num_slots = self._limits.num_running_max
        if itl_s < math.inf:
            depth = sum(s.standing.num_tokens for s in roster.running) / len(roster.running)
            num_slots = min(num_slots, streams_max(itl_s, depth, self.pace))
        room = Room(num_slots, roster.cache.pool.num_available, itl_s, has_unstated)
        return forecast([self._queued(s) for s in queue], decoding, room, self.pace, urgent=urgent)

    def _queued(self, sequence: Sequence) -> Queued:
        from .forecast import Queued

        standing = sequence.standing
        is_in = sequence.slot >= 0
        num_pages = standing.num_pages
        if not is_in:
            num_pages = -(-standing.num_tokens // self._limits.page_tokens) - standing.num_pages_shared
        return Queued(standing.num_computed, standing.num_left, self._num_left(sequence), num_pages, is_in)

    def _num_left(self, sequence: Sequence) -> int:
        """Tokens that it is expected to draw still."""
        expected = min(self._answer_share * sequence.num_answer_max, 2.0 * self._answer_tokens)
        return max(1, round(expected) - sequence.num_answer)

    def _late(self, queue: list[Sequence], times_s: list[float], now: float) -> set[Sequence]:
        """Who would begin too late, if things go as badly as in one case of twenty."""
        factor = self.ttft.apply(1.0).s_p95
        return {
            s
            for s, time_s in zip(queue, times_s, strict=True)
            if s.standing.due_at < math.inf and now + time_s * factor > s.standing.due_at
        }

    def _decode_load(self, roster: Roster) -> StepLoad:
        streams: list[Standing] = [s.standing for s in roster.running if s.standing.num_left <= 1]
        return StepLoad(len(streams), len(streams), sum(s.num_tokens for s in streams))

    def _itl_s(self, roster: Roster) -> float:
        return min((s.standing.itl_s for s in roster.running), default=math.inf)
