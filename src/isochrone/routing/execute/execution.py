"""One answer out of several places: whoever speaks first is heard, and whoever goes silent is gone on for.

    before the first words   a race (`race.next_step`): failover, hedges, pauses that a place asked for
    the first words          the commit point: the others are given up, and what was held back goes to the caller
    after them               the stream is watched; when it breaks off, another race, between those who can go on
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Generic

from isochrone.budget import Deadline
from isochrone.errors import BrokenOff, DeadlineExceeded, IsochroneError

from .attempt import Attempt
from .contest import Contest
from .exchange import Exchange, Item, Sent
from .faults import blame, broken_off, silent, typed
from .guide import Guide
from .race import INFINITE, stall_limit_s
from .settings import Settings
from .watch import Silence, Watch


class Execution(Generic[Item]):
    """Of one request.  `run` it once.

    is_dated  the caller stated a total time: the answer ends there
    strays    of the router: streams that take long to close
    """

    def __init__(
        self, exchange: Exchange[Item], deadline: Deadline, guide: Guide, settings: Settings,
        clock: Callable[[], float], *, is_dated: bool, strays: set[asyncio.Future[None]],
    ) -> None:  # fmt: skip
        self._exchange, self._deadline, self._guide = exchange, deadline, guide
        self._settings, self._clock = settings, clock
        self._end_at = deadline.total_at + settings.grace_s if is_dated else INFINITE
        self.contest = Contest(
            exchange, deadline, guide, settings, clock, limit_at=self._end_at, strays=strays
        )  # fmt: skip
        self._is_late = False

    async def run(self) -> AsyncGenerator[Item, None]:
        """The answer's items.  Closing it hangs up everywhere.

        Raises what the places' errors come to, and BrokenOff when an answer that had begun could not be gone on with.
        """
        exchange, clock = self._exchange, self._clock
        attempt: Attempt[Item] | None = None
        watch: Watch | None = None
        try:
            attempt = await self.contest.first_words(is_resuming=False)
            while True:
                sent, stream = attempt.sent, attempt.stream
                for item in attempt.held:
                    taken = exchange.take(item, sent)
                    if taken is not None:
                        yield taken
                watch = Watch(clock, self._look(sent))
                while True:
                    try:
                        item = await watch.wait(anext(stream))
                    except StopAsyncIteration:
                        failure: Exception | None = None
                        break
                    except Exception as error:
                        failure = error
                        break
                    sent.num_items += 1
                    sent.last_at = clock()
                    exchange.count(item, sent.tally)
                    taken = exchange.take(item, sent)
                    if taken is not None:
                        yield taken
                watch.close()
                attempt = None  # its stream has ended, one way or another, and is closed by that
                if exchange.is_over:
                    self.contest.end(sent, "answered")
                    return
                attempt, ending = await self._go_on(sent, failure)
                for item in ending:
                    yield item
                if attempt is None:
                    return
        finally:
            if watch is not None:
                watch.close()
            if attempt is not None:
                self.contest.end(attempt.sent, "answered" if exchange.is_over else "cancelled")
                self.contest.leave(attempt)
            try:
                await self.contest.close()
            finally:
                self._guide.closed()

    async def _go_on(
        self, sent: Sent, failure: Exception | None
    ) -> tuple[Attempt[Item] | None, list[Item]]:
        """(who goes on, nothing), or (None, the ending).  Raises BrokenOff, and what no other place would answer."""
        if self._is_late or (isinstance(failure, DeadlineExceeded) and self._is_due()):
            return None, self._cut(sent)
        if isinstance(failure, Silence):
            error: IsochroneError = silent(sent.target, self._clock() - sent.last_at)
            self.contest.end(sent, "stalled", error)
        else:
            error = broken_off(sent.target) if failure is None else typed(failure, sent.target)
            self.contest.end(sent, "failed", error)
        if blame(error) == "request":
            raise error
        try:
            return await self.contest.first_words(is_resuming=True), []
        except IsochroneError as last:
            ending = self._exchange.ending(sent, is_late=isinstance(last, DeadlineExceeded) and self._is_past_end())
            if ending:
                return None, ending
            raise self._broken_off(error) from last

    def _cut(self, sent: Sent) -> list[Item]:
        """The deadline's ending."""
        is_stalled = self._clock() - sent.last_at >= self._stall_s(sent)
        self.contest.end(sent, "stalled" if is_stalled else "cancelled")
        ending = self._exchange.ending(sent, is_late=True)
        if not ending:
            raise self._broken_off(silent(sent.target, self._clock() - sent.last_at))
        return ending

    def _look(self, sent: Sent) -> Callable[[float], float | None]:
        """What a watch asks in silence."""

        def look(silent_s: float) -> float | None:
            left_s = self._end_at - self._clock()
            if left_s <= 0.0:
                self._is_late = True
                return None
            stall_s, patience_s = self._stall_s(sent), self._settings.patience_s
            if silent_s >= patience_s or (silent_s >= stall_s and self.contest.can_resume()):
                return None
            again_s = stall_s - silent_s if silent_s < stall_s else stall_s
            return min(left_s, patience_s - silent_s, again_s)

        return look

    def _stall_s(self, sent: Sent) -> float:
        settings = self._settings
        return stall_limit_s(
            self._deadline.itl_s, sent.mean_gap_s, factor=settings.stall_factor, floor_s=settings.stall_floor_s,
            undated_s=settings.stall_undated_s,
        )  # fmt: skip

    def _is_due(self) -> bool:
        """The stated total time is over: a place that stops now keeps it, and the grace is not for another's words."""
        return self._end_at < INFINITE and self._clock() >= self._deadline.total_at

    def _is_past_end(self) -> bool:
        return self._clock() >= self._end_at

    def _broken_off(self, error: IsochroneError) -> BrokenOff:
        sent = self.contest.sent
        return BrokenOff(
            f"The answer broke off, and no other place could go on with it. {error.message}", fix=error.fix,
            num_prompt=sent[0].tally.num_prompt or sent[0].num_prompt,
            num_answer=sum(one.tally.num_answer for one in sent if one.first_at is not None and one.num_items >= 0),
            cost_usd=self.contest.spent_usd,
        )  # fmt: skip
