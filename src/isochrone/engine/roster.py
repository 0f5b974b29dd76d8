"""Who is in the engine: the sequences that wait and run, with their pages and slots.  Moves them, decides nothing."""

from __future__ import annotations

import math
from bisect import insort

from isochrone.runtime.step import RuntimeInfo

from .batch import BatchTables
from .cache import KVCache
from .records import Policy, Submit
from .schedule import Standing, rank
from .sequence import Request, Sequence, order_at

NUM_TENANTS_MAX = 1024
"""Tenants whose backlog is remembered before those without one are forgotten."""


class Roster:
    """Requests by id, their sequences by number, and two lists sorted by rank.

    A running sequence has a slot and pages; a waiting one has neither.
    """

    def __init__(self, info: RuntimeInfo, num_running_max: int, policy: Policy = "budget") -> None:
        self._policy = policy
        self.cache = KVCache(info)
        self.tables = BatchTables(info, num_running_max)
        self.requests: dict[int, Request] = {}
        self.sequences: dict[int, Sequence] = {}
        self.running: list[Sequence] = []
        self.waiting: list[Sequence] = []
        self._num_running_max, self._num_numbered = num_running_max, 0
        self._done_at: dict[str, float] = {}

    def add(self, submit: Submit, num_answer_max: int) -> Request:
        """Queue the samples of a request.  The first computes the prompt; the others wait for its pages."""
        request = Request(submit, self.cache.root(submit.tenant), has_begun=bool(submit.resume))
        self.requests[submit.id] = request
        begun = {resume.sample: resume.token_ids for resume in submit.resume}
        for sample in begun or range(submit.sampling.n):
            self._num_numbered += 1
            sequence = Sequence.start(request, sample, self._num_numbered, begun.get(sample, []), num_answer_max)
            self._date(sequence)
            sequence.standing.is_held_back = request.leader is not None
            request.leader = request.leader or sequence
            request.samples[sample] = sequence
            self.sequences[sequence.standing.id] = sequence
            insort(self.waiting, sequence, key=_rank)
        return request

    def space(self, request: Request, cost_s: float) -> None:
        """Order an undated request behind what its tenant has asked before: who floods the queue waits for itself.

        A tenant's next request is taken to arrive when those before it would be done, had it the engine for itself
        (start-time fair queueing: Goyal, Vin & Cheng 1996).
        """
        submit = request.submit
        if self._policy != "budget" or submit.total_at is not None or submit.ttft_at is not None:
            return
        starts_at = max(submit.arrived_at, self._done_at.get(submit.tenant, -math.inf))
        if len(self._done_at) >= NUM_TENANTS_MAX:
            self._done_at = {t: at for t, at in self._done_at.items() if at > submit.arrived_at}
        self._done_at[submit.tenant] = starts_at + cost_s
        if starts_at > submit.arrived_at:
            for sequence in request.samples.values():
                sequence.standing.order_at += starts_at - submit.arrived_at
            self.waiting.sort(key=_rank)

    def survey(self, now: float) -> list[Standing]:
        """The waiting, those who could be admitted knowing what the cache would give them."""
        self.cache.tree.unpin_expired(now)
        room = self._num_running_max - len(self.running)
        for sequence in self.waiting:
            if room <= 0:
                break
            if not sequence.standing.is_held_back and sequence.standing.total_at > now:
                self.cache.survey(sequence)
                room -= 1
        return [s.standing for s in self.waiting]

    def review(self) -> list[Standing]:
        """The running; when pages are short, knowing what each would set free."""
        pool = self.cache.pool
        if pool.num_available < len(self.running):
            for sequence in self.running:
                sequence.standing.num_pages_private = pool.num_private(sequence.pages)
        return [s.standing for s in self.running]

    def admit(self, sequence: Sequence) -> None:
        """From the queue into the batch."""
        self.waiting.remove(sequence)
        self.cache.admit(sequence)
        self.tables.enter(sequence)
        insort(self.running, sequence, key=_rank)

    def grow(self, sequence: Sequence) -> None:
        """One more page."""
        self.tables.set_page(sequence, sequence.standing.num_pages, self.cache.grow(sequence))

    def register(self, sequence: Sequence) -> None:
        """Its newly full pages can be shared from now on."""
        for at in self.cache.register(sequence):
            self.tables.set_page(sequence, at, sequence.pages[at])

    def begin(self, sequence: Sequence) -> None:
        """It has its first token: siblings may come, and its rank is that of the whole answer from now on."""
        request = sequence.request
        request.has_begun = True
        if request.leader is sequence:
            request.leader = None
            for sibling in request.samples.values():
                sibling.standing.is_held_back = False
        sequence.standing.due_at = math.inf
        if self._policy == "fcfs":
            return
        deadline_at = order_at(request.submit, has_begun=True)
        if deadline_at != sequence.standing.order_at:
            sequence.standing.order_at = deadline_at
            self.running.sort(key=_rank)

    def put_off(self, sequence: Sequence) -> None:
        """Its first token comes too late whatever is done: from now on it ranks as if it had stated none."""
        sequence.standing.due_at = math.inf
        sequence.standing.order_at = order_at(sequence.request.submit, has_begun=True)
        (self.running if sequence.slot >= 0 else self.waiting).sort(key=_rank)

    def requeue(self, sequence: Sequence, *, trusted: bool = True) -> None:
        """From the batch back into the queue; it will be computed again."""
        self._leave(sequence, trusted)
        insort(self.waiting, sequence, key=_rank)

    def remove(self, sequence: Sequence, *, trusted: bool = True) -> None:
        """Out of the engine."""
        request = sequence.request
        if sequence.slot >= 0:
            self._leave(sequence, trusted)
        else:
            self.waiting.remove(sequence)
        del self.sequences[sequence.standing.id], request.samples[sequence.sample]
        if request.leader is sequence:
            _lead_next(sequence)
        if not request.samples:
            del self.requests[request.submit.id]

    def drop(self, request: Request) -> None:
        """All that is left of a request out of the engine."""
        for sequence in list(request.samples.values()):
            self.remove(sequence)

    def _date(self, sequence: Sequence) -> None:
        """What was stated of its times, for those who plan."""
        submit, standing = sequence.request.submit, sequence.standing
        standing.itl_s = math.inf if submit.itl_s is None else submit.itl_s
        if not sequence.request.has_begun and (submit.ttft_at is not None or submit.total_at is not None):
            standing.due_at = submit.order_at
        if self._policy == "fcfs":
            standing.order_at = submit.arrived_at

    def _leave(self, sequence: Sequence, trusted: bool) -> None:
        self.running.remove(sequence)
        self.tables.leave(sequence)
        self.cache.leave(sequence, trusted=trusted)
        sequence.standing.has_begun = False


def _lead_next(leader: Sequence) -> None:
    """A sample left before it had computed the prompt: the next one does it, and scores what is left to score."""
    request = leader.request
    request.leader = next(iter(request.samples.values()), None)
    if request.leader is not None:
        request.leader.num_scores, request.leader.num_scored = leader.num_scores, leader.num_scored
        request.leader.standing.needs_rows = leader.standing.needs_rows
        request.leader.standing.is_held_back = False


def _rank(sequence: Sequence) -> tuple[float, float, int]:
    return rank(sequence.standing)
