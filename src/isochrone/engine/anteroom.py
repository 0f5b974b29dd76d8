"""Requests whose grammar is being compiled: they wait here, and the others go on."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from isochrone.errors import BadGrammar, IsochroneError

from .grammars import Grammars
from .records import Submit, deadline_exceeded

if TYPE_CHECKING:
    from isochrone.text.grammar import Matcher

    from .grammar import GrammarState

INLINE_S = 0.002
"""What a step gives a new grammar to be ready at once: most are in a millisecond."""
IDLE_S = 0.02
COMPILE_S_MAX = 5.0


@dataclass(slots=True)
class Guest:
    """A request that was found servable.  cancelled: samples nobody waits for any more;  until: real time, seconds"""

    submit: Submit
    num_answer_max: int
    until: float = 0.0
    cancelled: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Called:
    """A request that may go in: with the states of its samples, or with the reason why it may not."""

    guest: Guest
    states: dict[int, GrammarState]
    error: IsochroneError | None = None


class Anteroom:
    """Used by the engine's thread."""

    def __init__(self, grammars: Grammars) -> None:
        self._grammars = grammars
        self.guests: dict[int, Guest] = {}

    def enter(self, submit: Submit, num_answer_max: int) -> Called | None:
        """The request may go in at once, or None: it waits here."""
        guest = Guest(submit, num_answer_max, time.monotonic() + COMPILE_S_MAX)
        called = self._call(guest, INLINE_S, -math.inf)
        if called is None:
            self.guests[submit.id] = guest
        return called

    def call(self, now: float, *, is_idle: bool) -> list[Called]:
        """Those who may go in now.  is_idle: there is nothing else to do, so wait a little.

        now  on the clock of the requests' deadlines
        """
        out: list[Called] = []
        for id, guest in list(self.guests.items()):
            called = self._call(guest, IDLE_S if is_idle and not out else 0.0, now)
            if called is not None:
                out.append(called)
                del self.guests[id]
        return out

    def cancel(self, id: int, sample: int | None) -> int:
        """Nobody waits for this request, or for this sample of it; how many samples have left."""
        guest = self.guests.get(id)
        if guest is None:
            return 0
        begun = [resume.sample for resume in guest.submit.resume] or range(guest.submit.sampling.n)
        left = {s for s in begun if sample in (None, s)} - guest.cancelled
        guest.cancelled |= left
        if guest.cancelled.issuperset(begun):
            del self.guests[id]
        return len(left)

    def _call(self, guest: Guest, wait_s: float, now: float) -> Called | None:
        submit = guest.submit
        assert submit.grammar is not None, "only requests with a grammar wait for one"
        try:
            if submit.total_at is not None and submit.total_at <= now:
                raise deadline_exceeded(now - submit.total_at)
            matcher = self._grammars.find(submit.grammar, wait_s)
            if matcher is None and time.monotonic() < guest.until:
                return None
            if matcher is None:
                raise BadGrammar(
                    f"The grammar was still being compiled after {COMPILE_S_MAX:.0f} s.", fix="Simplify the grammar."
                )
            return Called(guest, _states(submit, matcher))
        except IsochroneError as error:
            return Called(guest, {}, error)


def _states(submit: Submit, matcher: Matcher) -> dict[int, GrammarState]:
    from .grammar import GrammarState  # most requests have none

    begun = {resume.sample: resume.token_ids for resume in submit.resume}
    return {
        sample: GrammarState(matcher.copy(), begun.get(sample, ())) for sample in begun or range(submit.sampling.n)
    }
