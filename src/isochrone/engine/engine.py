"""The engine: requests in, tokens out, one step at a time, over any runtime.

    submit, cancel ──► waiting ──admit──► running ──► deltas
                          ▲                 │ │
                          └─preempt, lost───┘ └─finished, refused, cancelled

`plan_step` decides, this file acts.  A request ends in exactly one way: every sample of it finished, or one refusal, or
its cancellation.  A fault ends at its request: rows that are not finite, and steps that raise, which are then tried one
sequence at a time.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable

from isochrone.errors import IsochroneError
from isochrone.runtime.step import Runtime, StepResult

from .admission import draining, expect_room, expect_servable
from .batch import Work
from .bounds import engine_info, step_limits
from .failures import NUM_LOSSES_MAX, lost_too_often, not_finite, raised_alone
from .outcome import Outcome, read_rows
from .records import (
    EngineLimits,
    EngineStats,
    FinishReason,
    StepOutput,
    Submit,
    deadline_exceeded,
    refusal_of,
    with_seed,
)  # fmt: skip
from .roster import Roster
from .schedule import StepPlan, plan_step
from .sequence import Sequence


class Engine:
    """Serves requests on one runtime.  Used by one thread.

    clock  the monotonic clock that stamps what a step gave; `step` itself is told the time
    """

    def __init__(
        self, runtime: Runtime, limits: EngineLimits | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        limits = limits or EngineLimits()
        self._runtime, self._clock = runtime, clock
        self._limits, self._num_waiting_max = step_limits(runtime.info, limits), limits.num_waiting_max
        self.info = engine_info(runtime.info, self._limits)
        self.roster = Roster(runtime.info, self._limits.num_running_max)
        self._suspects: deque[Sequence] = deque()  # of a step that raised: tried alone
        self._outcome = Outcome()
        self._totals: Counter[str] = Counter()
        self._step_s, self._service_s = 0.0, 1.0
        self._is_draining = False

    @property
    def has_work(self) -> bool:
        """Whether the next step has anything to do or to say."""
        return bool(self.roster.sequences) or self._outcome.has_news

    @property
    def stats(self) -> EngineStats:
        roster, pool = self.roster, self.roster.cache.pool
        return EngineStats(
            num_waiting=len(roster.waiting),
            num_running=len(roster.running),
            num_pages=pool.num_pages,
            num_pages_free=pool.num_free,
            num_pages_cached=pool.num_cached,
            num_pages_held=pool.num_held,
            step_s=self._step_s,
            is_draining=self._is_draining,
            **self._totals,
        )

    def submit(self, submit: Submit) -> None:
        """Take a request; if it cannot be served, the next step's output refuses it."""
        roster = self.roster
        assert submit.id not in roster.requests, f"request {submit.id} is in the engine already"
        try:
            if self._is_draining:
                raise draining()
            num_answer_max = expect_servable(submit, self.info)
            num_new = len(submit.resume) or submit.sampling.n
            expect_room(len(roster.waiting), num_new, self._num_waiting_max, len(roster.running), self._service_s)
        except IsochroneError as error:
            self._refuse(submit.id, error)
            return
        request = roster.add(with_seed(submit), num_answer_max)
        for sequence in list(request.samples.values()) if submit.resume else ():
            if 0 < num_answer_max <= sequence.num_answer:  # all but its end had been delivered
                self._finish(sequence, "length", self._clock())

    def cancel(self, id: int, sample: int | None = None) -> None:
        """Give the slot and pages of a request (or of one sample of it) back at once.  Unknown ids are over already."""
        request = self.roster.requests.get(id)
        if request is None:
            return
        for sequence in [s for s in request.samples.values() if sample in (None, s.sample)]:
            self.roster.remove(sequence)
            self._totals["num_cancelled_total"] += 1

    def drain(self) -> None:
        """Refuse what comes from now on; what was taken is finished."""
        self._is_draining = True

    def step(self, now: float) -> StepOutput:
        """Plan, run and absorb one step.  now: the instant it begins, on the clock of the requests' deadlines."""
        roster = self.roster
        if roster.sequences:
            waiting, running = roster.survey(now) if roster.waiting else [], roster.review()
            plan = plan_step(running, waiting, self._limits, roster.cache.pool.num_available, now)
            self._act(plan, now)
            decoding = [roster.sequences[id] for id in plan.decode]
            works = [self._work(roster.sequences[chunk.id], chunk.num_tokens) for chunk in plan.prefill]
            if self._suspects:
                decoding, works = self._isolate(decoding, works)
            if decoding or works:
                self._run(decoding, works)
        deltas, refusals = self._outcome.take()
        return StepOutput(deltas, refusals, self.stats)

    # Before the step.

    def _act(self, plan: StepPlan, now: float) -> None:
        roster, page_tokens = self.roster, self._limits.page_tokens
        for id in plan.expire:
            if id in roster.sequences:  # it may have left with a sibling
                self._expire(roster.sequences[id], now)
        for id in plan.preempt:
            self._totals["num_preempted_total"] += 1
            roster.sequences[id].num_preempted += 1
            roster.requeue(roster.sequences[id])
        for id in plan.admit:
            self._admit(roster.sequences[id], now)
        for id in plan.decode:
            standing = roster.sequences[id].standing
            if standing.num_computed == standing.num_pages * page_tokens:
                roster.grow(roster.sequences[id])

    def _admit(self, sequence: Sequence, now: float) -> None:
        self.roster.admit(sequence)
        if not sequence.admitted_at:
            sequence.admitted_at, sequence.num_cached = now, sequence.standing.num_computed
            self._totals["num_cached_tokens_total"] += sequence.num_cached

    def _work(self, sequence: Sequence, num_tokens: int) -> Work:
        standing = sequence.standing
        num_tokens = min(num_tokens, standing.num_tokens - standing.num_computed)
        end = standing.num_computed + num_tokens
        num_scores = max(0, min(end, sequence.num_scores) - sequence.num_scored)
        return Work(sequence, num_tokens, num_scores, end == standing.num_tokens and sequence.num_answer_max > 0)

    def _isolate(self, decoding: list[Sequence], works: list[Work]) -> tuple[list[Sequence], list[Work]]:
        """Only the first suspect that this step could run; suspects that wait or are gone are none any more."""
        planned = {s.standing.id for s in decoding} | {work.sequence.standing.id for work in works}
        while self._suspects:
            suspect = self._suspects.popleft()
            if suspect.standing.id in planned:
                return [s for s in decoding if s is suspect], [work for work in works if work.sequence is suspect]
        return decoding, works

    # The step.

    def _run(self, decoding: list[Sequence], works: list[Work]) -> None:
        is_plain = not works and all(s.num_answer_max for s in decoding)
        if not is_plain:
            works = [self._work(s, 1) for s in decoding] + works
        begin = time.perf_counter()
        try:
            batch = self.roster.tables.decode(decoding) if is_plain else self.roster.tables.mixed(works)
            result = self._runtime.step(batch)
        except Exception as error:  # a fault ends at a request: find whose it is
            self._suspect(decoding if is_plain else [work.sequence for work in works], error)
            return
        self._step_s = time.perf_counter() - begin
        self._totals["num_steps_total"] += 1
        self._totals["num_decode_tokens_total"] += len(decoding)
        if is_plain and not result.failed and not result.lost and result.finite.all():
            self._absorb_decode(decoding, result)
        else:
            self._totals["num_prefill_tokens_total"] += len(batch.token_ids) - len(decoding)
            self._absorb(works or [Work(s, 1) for s in decoding], result)

    def _suspect(self, sequences: list[Sequence], error: Exception) -> None:
        if len(sequences) > 1:
            self._suspects = deque(sequences)
            return
        self._fail(sequences[0], raised_alone(error))

    # After the step.

    def _absorb_decode(self, sequences: list[Sequence], result: StepResult) -> None:
        """Every sequence drew its one token, and nothing went wrong."""
        self.roster.tables.advance(sequences, result.tokens)
        now, page_tokens = self._clock(), self._limits.page_tokens
        for row, (sequence, token) in enumerate(zip(sequences, result.tokens.tolist(), strict=True)):
            standing = sequence.standing
            standing.num_computed += 1
            if standing.num_computed % page_tokens == 0:
                self.roster.register(sequence)
            self._push(sequence, token, row, result, now)

    def _absorb(self, works: list[Work], result: StepResult) -> None:
        """Any step; sequences that were lost or not finite leave, the others take what is theirs."""
        now, row = self._clock(), 0
        if result.lost:
            self._replay([works[at].sequence for at in result.lost])
        for at, work in enumerate(works):
            first_row, row = row, row + work.num_rows
            if work.sequence.slot < 0:
                continue  # lost, or gone with a sibling
            if at in result.failed or not result.finite[first_row:row].all():
                self._fail(work.sequence, not_finite())
            else:
                self._absorb_work(work, first_row, result, now)

    def _absorb_work(self, work: Work, first_row: int, result: StepResult, now: float) -> None:
        sequence, standing = work.sequence, work.sequence.standing
        standing.num_computed += work.num_tokens
        self.roster.register(sequence)
        if work.num_scores:
            self._outcome.score(sequence, read_rows(sequence, result, first_row, first_row + work.num_scores))
            sequence.num_scored += work.num_scores
            standing.needs_rows = sequence.num_scored < sequence.num_scores
        if work.draws:
            row = first_row + work.num_scores
            self._push(sequence, int(result.tokens[row]), row, result, now)
        elif standing.num_computed == standing.num_tokens:
            self._finish(sequence, "length", now)
        if sequence.slot >= 0 and standing.num_tokens - standing.num_computed == 1:
            self.roster.tables.set_next(sequence)

    def _push(self, sequence: Sequence, token: int, row: int, result: StepResult, now: float) -> None:
        """The token drawn at this row joins the answer or ends it."""
        reason = sequence.push(token)
        if not sequence.first_token_at:
            sequence.first_token_at = now
            self.roster.begin(sequence)
        if reason is None:
            self._outcome.token(sequence, token, result, row)
        else:
            self._outcome.token(sequence, token, result, row, reason, sequence.timing(now))
            self._end(sequence, now)

    def _replay(self, lost: list[Sequence]) -> None:
        """The runtime lost these sequences' cache, and so that of all who share a page with them."""
        roster, pages = self.roster, {page for sequence in lost for page in sequence.pages}
        roster.cache.pool.forget_cached()  # nobody reported on these: what is left of them is unknown
        for sequence in [s for s in roster.running if not pages.isdisjoint(s.pages)]:
            if sequence.slot < 0:
                continue  # left with a sibling that failed
            sequence.num_lost += 1
            self._totals["num_replayed_total"] += 1
            if sequence.num_lost > NUM_LOSSES_MAX:
                self._fail(sequence, lost_too_often())
            else:
                roster.requeue(sequence, trusted=False)

    # Ways to end.

    def _expire(self, sequence: Sequence, now: float) -> None:
        submit = sequence.request.submit
        if sequence.request.has_begun:
            self._finish(sequence, "deadline", now)
            return
        assert submit.total_at is not None, "only a dated request expires"
        self.roster.drop(sequence.request)
        self._refuse(submit.id, deadline_exceeded(now - submit.total_at))

    def _fail(self, sequence: Sequence, error: IsochroneError) -> None:
        """The whole request ends, and nothing that this sequence wrote is found again."""
        self._totals["num_failed_total"] += 1
        self.roster.remove(sequence, trusted=False)
        self.roster.drop(sequence.request)
        self._refuse(sequence.request.submit.id, error)

    def _refuse(self, id: int, error: IsochroneError) -> None:
        self._totals["num_refused_total"] += 1
        self._outcome.refuse(refusal_of(id, error))

    def _finish(self, sequence: Sequence, reason: FinishReason, now: float) -> None:
        self._outcome.finish(sequence, reason, sequence.timing(now))
        self._end(sequence, now)

    def _end(self, sequence: Sequence, now: float) -> None:
        self._totals["num_finished_total"] += 1
        if sequence.admitted_at:
            self._service_s += 0.1 * (now - sequence.admitted_at - self._service_s)
        self.roster.remove(sequence)
