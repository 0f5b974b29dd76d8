"""The shell around `race.next_step`: asks places, waits for the first words, and books what became of each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Generic

from isochrone.budget import Deadline
from isochrone.errors import BadRequest, DeadlineExceeded, IsochroneError
from isochrone.places.route import Why
from isochrone.routing.records import OutcomeKind, Target

from .attempt import Attempt
from .exchange import Exchange, Item, Sent
from .faults import blame, most_telling, silent, typed
from .guide import Guide, Later, Option
from .race import INFINITE, NUM_HEDGE_STEPS, Again, Ask, Fail, GiveUp, Race, Running, Wait, next_step, when_to_hedge
from .settings import Settings
from .watch import PAUSE_S_MIN


class Contest(Generic[Item]):
    """Of one request.

    limit_at  when the caller's time is over;  infinite: no total time was stated
    strays    of the router: streams that take long to close
    """

    def __init__(
        self, exchange: Exchange[Item], deadline: Deadline, guide: Guide, settings: Settings,
        clock: Callable[[], float], *, limit_at: float, strays: set[asyncio.Future[None]],
    ) -> None:  # fmt: skip
        self._exchange, self._deadline, self._guide = exchange, deadline, guide
        self._settings, self._clock, self._limit_at, self._strays = settings, clock, limit_at, strays
        self._live: list[Attempt[Item]] = []
        self._closing: set[asyncio.Future[None]] = set()
        self._tried: set[Target] = set()
        self._asked: set[Target] = set()
        self._errors: list[IsochroneError] = []
        self._options: Sequence[Option] = ()
        self._hedge_at: float | None = None
        self._is_hedge_due = False
        self._is_resuming = False
        self._patience_at = INFINITE
        self.sent: list[Sent] = []

    @property
    def spent_usd(self) -> float:
        """By all attempts so far."""
        return sum(sent.cost_usd for sent in self.sent)

    async def first_words(self, *, is_resuming: bool) -> Attempt[Item]:
        """The attempt that speaks first; the others are given up.  Raises what the places' errors come to."""
        self._is_resuming, self._hedge_at, self._errors = is_resuming, None, []
        self._patience_at = self._clock() + self._settings.patience_s
        self._look_around()
        while True:
            now = self._clock()
            later = None if self._live else self._later()
            match next_step(self._race(later), now):
                case Ask(target, why):
                    self._ask(target, why, later, now)
                case GiveUp(target):
                    attempt = next(attempt for attempt in self._live if attempt.sent.target == target)
                    error = silent(target, now - attempt.sent.sent_at)
                    self._drop(attempt, "stalled", error)
                    self._errors.append(error)
                    self._look_around()
                case Wait(until):
                    winner = await self._wait(None if until == INFINITE else max(PAUSE_S_MIN, until - now))
                    if winner is not None:
                        # Whoever failed before these words may go on after them, those first that were never asked.
                        self._tried = {winner.sent.target}
                        return winner
                case Fail(is_late):
                    raise self._failure(is_late)

    def can_resume(self) -> bool:
        """Whether anybody could go on with the answer now."""
        if len(self.sent) >= self._settings.attempts_max:
            return False
        self._is_resuming = True
        self._look_around()
        return self._following() is not None

    def end(self, sent: Sent, kind: OutcomeKind, error: IsochroneError | None = None) -> None:
        """Book the end of an attempt."""
        assert sent.kind is None, f"{sent.target} ended as {sent.kind} and as {kind}"
        sent.kind, sent.ended_at = kind, self._clock()
        sent.code = error.code if error else ""
        self._guide.ended(sent, error)

    def leave(self, attempt: Attempt[Item]) -> None:
        """Close its stream, without waiting."""
        closing = attempt.close()
        if closing is not None:
            self._closing.add(closing)

    async def close(self) -> None:
        """Give up what runs, and wait until every stream is closed."""
        for attempt in list(self._live):
            self._drop(attempt, "cancelled")
        if not self._closing:
            return
        try:
            await asyncio.wait(self._closing, timeout=self._settings.close_s)
        finally:
            for closing in self._closing:
                if not closing.done():
                    self._strays.add(closing)
                    closing.add_done_callback(self._strays.discard)
                closing.add_done_callback(_forget)

    def _look_around(self) -> None:
        options = self._guide.options(
            self._tried, spent_usd=self.spent_usd, is_resuming=self._is_resuming
        )  # what is left of the budget has changed, and so may have the places
        self._options = sorted(options, key=lambda option: option.target in self._asked)

    def _following(self) -> Option | None:
        """The best that can be asked beside or after those that were."""
        busy = {attempt.sent.target[0] for attempt in self._live}
        failed = {sent.target for sent in self.sent if sent.kind in ("failed", "stalled")}
        for option in sorted(self._options, key=lambda option: option.target in failed):  # those last
            if option.target in self._tried or option.target[0] in busy:
                continue
            if self._is_resuming:  # without an allowance: what breaks off is asked for again, from its beginning
                if self._exchange.can_resume(option.target):
                    return option
            elif not self.sent or self._guide.can_retry(option.target):
                return option
        return None

    def _later(self) -> Later | None:
        """Who said when to come back, if that is early enough to be of use."""
        later = self._guide.later(self._tried)
        if later is None or (self._is_resuming and not self._exchange.can_resume(later.option.target)):
            return None
        now = self._clock()
        within_s = None if self._is_resuming else self._guide.first_by_s(now)
        use_until = self._deadline.total_at if within_s is None else now + within_s
        return later if max(later.at, now) < use_until else None

    def _race(self, later: Later | None) -> Race:
        following = self._following()
        return Race(
            running=tuple(Running(attempt.sent.target, attempt.timeout_at) for attempt in self._live),
            following=following.target if following else None,
            again=Again(later.option.target, later.at) if later else None,
            num_left=self._settings.attempts_max - len(self.sent),
            hedge_at=self._hedge_at,
            limit_at=self._limit_at,
            patience_at=self._patience_at,
            is_resuming=self._is_resuming,
            has_begun=bool(self.sent),
        )

    def _ask(self, target: Target, why: Why, later: Later | None, now: float) -> None:
        known = [later.option] if later else []
        option = next(option for option in [*self._options, *known] if option.target == target)
        if why == "hedge" and not self._is_worth(option, now):
            return
        sent = option.sent(why, now)
        self._tried.add(target)
        self._asked.add(target)
        left = left_of(self._deadline, now, self.spent_usd, is_resuming=self._is_resuming)
        self.sent.append(sent)
        self._guide.sent(sent)
        self._hedge_at, self._is_hedge_due = None, False
        try:
            stream = self._exchange.open(target, left, resume=self._is_resuming)
        except Exception as failure:  # it cannot be said in this place's words: nothing has gone out
            self._unsaid(sent, failure)
            return
        self._live.append(Attempt(sent, stream, self._exchange, self._clock, now + option.timeout_s, self._guide.spoke))
        if why != "hedge" and not self._is_resuming:
            within_s = self._guide.first_by_s(now)
            if within_s is not None:
                self._hedge_at = now + within_s / NUM_HEDGE_STEPS  # a first look: most answers come before it

    def _is_worth(self, second: Option, now: float) -> bool:
        """Whether to hedge now.  Otherwise `_hedge_at` says when to think of it again."""
        if not self._is_hedge_due:
            first, within_s = self._live[0].sent, self._guide.first_by_s(now)
            after_s = None if within_s is None else when_to_hedge(
                lambda within_s, silent_s: self._guide.chance(first.target, within_s, silent_s),
                lambda within_s: self._guide.chance(second.target, within_s),
                within_s, silent_s=now - first.sent_at, margin=self._settings.hedge_margin,
            )  # fmt: skip
            self._hedge_at = None if after_s is None else now + after_s
            self._is_hedge_due = True
            if after_s != 0.0:
                return False
        if self._guide.may_hedge():
            return True
        self._hedge_at = None
        return False

    async def _wait(self, seconds: float | None) -> Attempt[Item] | None:
        if not self._live:
            await asyncio.sleep(seconds or 0.0)
            self._look_around()
            return None
        done, _ = await asyncio.wait(
            [attempt.task for attempt in self._live], timeout=seconds, return_when=asyncio.FIRST_COMPLETED
        )
        winner: Attempt[Item] | None = None
        for attempt in [attempt for attempt in self._live if attempt.task in done]:
            failure = attempt.task.exception() if not attempt.task.cancelled() else asyncio.CancelledError()
            if failure is None:
                winner = winner or attempt
            else:
                self._live.remove(attempt)
                self._failed(attempt.sent, failure)
        if winner is not None:
            self._live.remove(winner)
            for attempt in list(self._live):
                self._drop(attempt, "hedged_out")
        elif done:
            self._look_around()
        return winner

    def _unsaid(self, sent: Sent, failure: Exception) -> None:
        """Book an attempt that never began.  Another place may need other words, or the caller's very own."""
        error = typed(failure, sent.target)
        self.end(sent, "refused", error)
        self._errors.append(error)
        self._look_around()

    def _failed(self, sent: Sent, failure: BaseException) -> None:
        """Book it.  Raises what no other place would answer either, unless one has taken it and is still waited for."""
        if not isinstance(failure, Exception):
            failure = RuntimeError("the stream was cancelled from within")
        error = typed(failure, sent.target)
        fault = blame(error)
        self.end(sent, "failed" if fault == "place" else "refused", error)
        is_final = fault == "request" and not (self._is_resuming and isinstance(error, BadRequest))
        if is_final and not self._live:  # of a continuation the caller wrote nothing that could be bad
            raise error
        self._errors.append(error)

    def _drop(self, attempt: Attempt[Item], kind: OutcomeKind, error: IsochroneError | None = None) -> None:
        self._live.remove(attempt)
        self.end(attempt.sent, kind, error)
        self.leave(attempt)

    def _failure(self, is_late: bool) -> IsochroneError:
        if is_late:
            return DeadlineExceeded(
                "No place gave a word before the deadline.",
                fix="Allow more time (x-deadline-ms), or see which places are up.",
            )
        return most_telling(self._errors) if self._errors else self._guide.refusal()


def left_of(deadline: Deadline, now: float, spent_usd: float, *, is_resuming: bool) -> Deadline:
    """What an attempt that begins now may use of the caller's budget.

    First words that are late already are wanted as soon as possible, and those of a continuation are no first ones.
    """
    is_moot = is_resuming or (deadline.ttft_at is not None and deadline.ttft_at <= now)
    if not is_moot and (deadline.cost_usd is None or spent_usd == 0.0):
        return deadline
    cost_usd = None if deadline.cost_usd is None else max(0.0, deadline.cost_usd - spent_usd)
    return replace(deadline, ttft_at=None if is_moot else deadline.ttft_at, cost_usd=cost_usd)


def _forget(closing: asyncio.Future[None]) -> None:
    """What a place says while it is hung up on concerns nobody: its attempt is booked."""
    if not closing.cancelled():
        closing.exception()
