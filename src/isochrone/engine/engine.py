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
from pathlib import Path
from typing import TYPE_CHECKING

from isochrone.errors import IsochroneError
from isochrone.runtime.step import Runtime, StepResult

from .admission import draining, expect_room, expect_servable
from .anteroom import Anteroom, Called, Guest
from .batch import Work
from .bounds import engine_info, step_limits
from .cache import READ_BYTES_PER_S, Shelf
from .failures import NUM_LOSSES_MAX, lost_too_often, not_finite, raised_alone
from .grammars import Grammars
from .guessing import Guesser
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
from .sequence import Sequence, Taken
from .timekeeper import Timekeeper

if TYPE_CHECKING:
    from isochrone.text.grammar import Tokens

    from .grammar import GrammarState

NUM_GUESSED_STEPS = 8
"""Steps with guesses of which one is learned from: each is another size, and to learn costs a hundredth of a step."""


class Engine:
    """Serves requests on one runtime.  Used by one thread.

    clock  the monotonic clock that stamps what a step gave; `step` itself is told the time
    load_tokens  reads the model's tokenizer, called in a thread at the first grammar; None: grammars are refused
    """

    def __init__(
        self, runtime: Runtime, limits: EngineLimits | None = None, *, clock: Callable[[], float] = time.monotonic,
        load_tokens: Callable[[], Tokens] | None = None,
    ) -> None:  # fmt: skip
        limits = limits or EngineLimits()
        self._runtime, self._clock = runtime, clock
        self._limits, self._num_waiting_max = step_limits(runtime.info, limits), limits.num_waiting_max
        self.info = engine_info(runtime.info, self._limits)
        self.roster = Roster(runtime.info, self._limits.num_running_max, limits.policy)
        self.time = Timekeeper(self._limits, limits.policy)
        self.roster.cache.shelf, self.roster.cache.reuses = self._shelf(limits), limits.reuses
        self._forces = limits.forces
        self._guesser = Guesser(self.roster, self._limits, forces=limits.forces, drafts=limits.drafts)
        self._grammars = Grammars(load_tokens, self.info.vocab_size)
        self._anteroom = Anteroom(self._grammars)
        self._suspects: deque[Sequence] = deque()  # of a step that raised: tried alone
        self._outcome = Outcome()
        self._totals: Counter[str] = Counter()
        self._step_s, self._service_s = 0.0, 1.0
        self._is_draining = False

    @property
    def has_work(self) -> bool:
        """Whether the next step has anything to do or to say."""
        return bool(self.roster.sequences) or bool(self._anteroom.guests) or self._outcome.has_news

    @property
    def stats(self) -> EngineStats:
        roster, pool, shelf = self.roster, self.roster.cache.pool, self.roster.cache.shelf
        return EngineStats(
            num_waiting=len(roster.waiting) + len(self._anteroom.guests),
            num_running=len(roster.running),
            num_pages=pool.num_pages,
            num_pages_free=pool.num_free,
            num_pages_cached=pool.num_cached,
            num_pages_held=pool.num_held,
            step_s=self._step_s,
            is_draining=self._is_draining,
            pace=self.time.told,
            num_restored_total=self.roster.cache.num_restored,
            num_spilled_total=shelf.spill.num_written if shelf is not None else 0,
            num_spill_broken_total=shelf.spill.num_broken if shelf is not None else 0,
            **self._totals,
        )

    def submit(self, submit: Submit) -> None:
        """Take a request; if it cannot be served, the next step's output refuses it."""
        roster = self.roster
        is_new = submit.id not in roster.requests and submit.id not in self._anteroom.guests
        assert is_new, f"request {submit.id} is in the engine already"
        try:
            if self._is_draining:
                raise draining()
            num_answer_max = expect_servable(submit, self.info)
            num_new = len(submit.resume) or submit.sampling.n
            num_waiting = len(roster.waiting) + len(self._anteroom.guests)
            expect_room(num_waiting, num_new, self._num_waiting_max, len(roster.running), self._service_s)
        except IsochroneError as error:
            self._refuse(submit.id, error)
            return
        if submit.grammar is None:
            self._enter(Guest(with_seed(submit), num_answer_max), {})
        elif (called := self._anteroom.enter(with_seed(submit), num_answer_max)) is not None:
            self._let_in(called)

    def _let_in(self, called: Called) -> None:
        if called.error is not None:
            self._refuse(called.guest.submit.id, called.error)
        else:
            self._enter(called.guest, called.states)

    def _enter(self, guest: Guest, states: dict[int, GrammarState]) -> None:
        roster, submit, num_answer_max = self.roster, guest.submit, guest.num_answer_max
        request = roster.add(submit, num_answer_max)
        try:
            request.predicted_s = None if submit.resume else self.time.expect_timely(request, roster, self._clock())
        except IsochroneError as error:
            roster.drop(request)
            self._refuse(submit.id, error)
            return
        for sample in guest.cancelled:
            roster.remove(request.samples[sample])
        for sequence in list(request.samples.values()) if submit.resume or states else ():
            try:
                self._resume(sequence, states.get(sequence.sample))
            except IsochroneError as error:
                roster.drop(request)
                self._refuse(submit.id, error)
                return

    def _resume(self, sequence: Sequence, state: GrammarState | None) -> None:
        """Go on after what was delivered and what a grammar forces at once; that may be all of the answer."""
        reason = None if state is None else sequence.follow(state, forces=self._forces)
        if reason is None and 0 < sequence.num_answer_max <= sequence.num_answer:
            reason = "length"
        if reason is None:
            return
        now = self._clock()
        if sequence.unsaid:
            sequence.first_token_at = now
        self._finish(sequence, reason, now)

    def cancel(self, id: int, sample: int | None = None) -> None:
        """Give the slot and pages of a request (or of one sample of it) back at once.  Unknown ids are over already."""
        self._totals["num_cancelled_total"] += self._anteroom.cancel(id, sample)
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
        if self._anteroom.guests:
            for called in self._anteroom.call(now, is_idle=not roster.sequences and not self._outcome.has_news):
                self._let_in(called)
        if roster.sequences:
            self._totals["num_deferred_total"] += self.time.give_up(roster, now)
            waiting, running = roster.survey(now) if roster.waiting else [], roster.review()
            plan = plan_step(running, waiting, self._limits, roster.cache.pool.num_available, now, self.time.pace)
            self._act(plan, now)
            decoding = [roster.sequences[id] for id in plan.decode]
            works = [self._work(roster.sequences[chunk.id], chunk.num_tokens) for chunk in plan.prefill]
            if self._suspects:
                decoding, works = self._isolate(decoding, works)
            if decoding or works:
                self._run(decoding, works)
        deltas, refusals = self._outcome.take()
        return StepOutput(deltas, refusals, self.stats)

    def _shelf(self, limits: EngineLimits) -> Shelf | None:
        if limits.spill_bytes is None:
            return None
        assert limits.spill_dir is not None, "who allows a spill says where"
        block_bytes = self._runtime.info.page_bytes
        from .spill import Spill  # its file and its thread are for whoever asked for them

        spill = Spill(Path(limits.spill_dir), limits.spill_bytes, block_bytes)
        return Shelf(spill, self._runtime, self.time.compute_s, block_bytes / READ_BYTES_PER_S)

    # Before the step.

    def _act(self, plan: StepPlan, now: float) -> None:
        roster = self.roster
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
            self._cover(roster.sequences[id], 1)
        for chunk in plan.prefill:
            self._cover(roster.sequences[chunk.id], chunk.num_tokens)

    def _cover(self, sequence: Sequence, num_tokens: int) -> None:
        """Pages for its next tokens, which the plan has counted."""
        standing = sequence.standing
        end = min(standing.num_computed + num_tokens, standing.num_tokens)
        while standing.num_pages * self._limits.page_tokens < end:
            self.roster.grow(sequence)

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
        guesses = self._guesser.guess(decoding, works)
        is_decode = not works
        is_plain = is_decode and not guesses and all(s.num_answer_max and s.grammar is None for s in decoding)
        if not is_plain:
            works = self._extended([self._work(s, 1) for s in decoding] + works, guesses)
            decoding = [s for s in decoding if s.slot >= 0]
            if not works:
                return
        begin = self._clock()
        try:
            batch = self.roster.tables.decode(decoding) if is_plain else self.roster.tables.mixed(works)
            result = self._runtime.step(batch)
        except Exception as error:  # a fault ends at a request: find whose it is
            self._suspect(works or [Work(s, 1) for s in decoding], error)
            return
        self._step_s = self._clock() - begin
        num_drafts = sum(len(work.drafts) for work in works)
        if is_decode:
            self._guesser.learn_step(len(batch.token_ids), self._step_s)
        if not num_drafts or self._totals["num_steps_total"] % NUM_GUESSED_STEPS == 0:
            self.time.learn_step(batch, self._step_s)
        self._totals["num_steps_total"] += 1
        self._totals["num_decode_tokens_total"] += len(decoding)
        if is_plain and not result.failed and not result.lost and result.finite.all():
            self._absorb_decode(decoding, result)
        else:
            self._totals["num_prefill_tokens_total"] += len(batch.token_ids) - len(decoding) - num_drafts
            self._absorb(works or [Work(s, 1) for s in decoding], result)

    def _extended(self, works: list[Work], guesses: dict[int, list[int]]) -> list[Work]:
        """With drafts and masks; without those whose grammar fails here."""
        works, failed = self._guesser.extend(works, guesses)
        for sequence, error in failed:
            if sequence.slot >= 0:
                self._fail(sequence, error)
        return [work for work in works if work.sequence.slot >= 0]  # others may have left with a sibling

    def _suspect(self, works: list[Work], error: Exception) -> None:
        guessed = [work.sequence for work in works if work.drafts]
        for sequence in guessed:
            sequence.is_guessed = False  # what raised may have been a guess
        if len(works) > 1:
            self._suspects = deque(work.sequence for work in works)
        elif not guessed:
            self._fail(works[0].sequence, raised_alone(error))

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
            self._guesser.learn(sequence, [token])
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
            is_finite = result.finite[first_row : first_row + work.num_rows_read(result, first_row)].all()
            if at in result.failed and work.drafts:
                work.sequence.is_guessed = False  # it may have been a guess: the step is repeated without any
            elif at in result.failed or not is_finite:
                self._fail(work.sequence, not_finite())
            else:
                self._absorb_work(work, first_row, result, now)

    def _absorb_work(self, work: Work, first_row: int, result: StepResult, now: float) -> None:
        sequence, standing, row = work.sequence, work.sequence.standing, first_row + work.num_scores
        taken = Taken([], 0)
        if work.draws:
            try:
                taken = sequence.take(result.tokens[row : row + work.num_draws].tolist(), work.drafts)
                self._guesser.learn(sequence, taken.token_ids)
            except IsochroneError as error:  # its grammar costs too much here
                self._fail(sequence, error)
                return
        standing.num_computed += work.num_tokens + taken.num_accepted
        self.roster.register(sequence)
        if work.num_scores:
            self._outcome.score(sequence, read_rows(sequence, result, first_row, first_row + work.num_scores))
            sequence.num_scored += work.num_scores
            standing.needs_rows = sequence.num_scored < sequence.num_scores
        if work.draws:
            self._tell(work, taken, row, result, now)
        elif standing.num_computed == standing.num_tokens:
            self._finish(sequence, "length", now)
        if sequence.slot >= 0 and standing.num_tokens - standing.num_computed == 1:
            self.roster.tables.set_next(sequence)

    def _tell(self, work: Work, taken: Taken, row: int, result: StepResult, now: float) -> None:
        """What was drawn from this row on joined the answer or ended it."""
        sequence = work.sequence
        self._begin(sequence, now)
        sequence.num_drafted += len(work.drafts)
        sequence.num_accepted += taken.num_accepted
        self._totals["num_drafted_total"] += len(work.drafts)
        self._totals["num_accepted_total"] += taken.num_accepted
        timing = None if taken.reason is None else sequence.timing(now)
        self._outcome.tokens(sequence, taken, result, row, timing)
        if taken.reason is not None:
            self._end(sequence, now)

    def _push(self, sequence: Sequence, token: int, row: int, result: StepResult, now: float) -> None:
        """The token drawn at this row joins the answer or ends it."""
        reason = sequence.push(token)
        self._begin(sequence, now)
        if reason is None:
            self._outcome.token(sequence, token, result, row)
        else:
            self._outcome.token(sequence, token, result, row, reason, sequence.timing(now))
            self._end(sequence, now)

    def _begin(self, sequence: Sequence, now: float) -> None:
        sequence.standing.has_begun = True
        if not sequence.first_token_at:
            sequence.first_token_at = now
            self.time.learn_first_token(sequence, now)
            self.roster.begin(sequence)

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
        self._totals["num_forced_total"] += sequence.num_forced
        self.time.learn_answer(sequence)
        self._guesser.finish(sequence)
        if sequence.admitted_at:
            self._service_s += 0.1 * (now - sequence.admitted_at - self._service_s)
        self.roster.remove(sequence)
