"""What to do next while no place has begun to answer: a pure function of who was asked, who is left and the time.

    nobody is asked           -> ask the best that is left; or wait, where one said when to come back; or give up
    one is too slow           -> give it up, if another is left
    one becomes unlikely      -> ask a second beside it
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from isochrone.places.route import Why
from isochrone.routing.records import Target

INFINITE = float("inf")
NUM_HEDGE_STEPS = 16


@dataclass(frozen=True, slots=True)
class Running:
    """target, and the instant from which it counts as too slow."""

    target: Target
    timeout_at: float = INFINITE


@dataclass(frozen=True, slots=True)
class Again:
    """A place that said when it will have room, which the deadline allows."""

    target: Target
    at: float


@dataclass(frozen=True, slots=True)
class Race:
    """running    those that were asked and have not answered
    following     the best that has not been asked;  None: nobody is left
    again         whom to ask again when nobody else is left
    num_left      attempts that are still allowed
    hedge_at      when a second place pays;  None: it does not
    limit_at      when the caller's time is over
    patience_at   when waiting ends although nobody is left
    is_resuming   an answer has begun and broken off
    has_begun     somebody was asked before
    """

    running: tuple[Running, ...] = ()
    following: Target | None = None
    again: Again | None = None
    num_left: int = 1
    hedge_at: float | None = None
    limit_at: float = INFINITE
    patience_at: float = INFINITE
    is_resuming: bool = False
    has_begun: bool = False


@dataclass(frozen=True, slots=True)
class Ask:
    """Send the request there."""

    target: Target
    why: Why


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Stop waiting for this one."""

    target: Target


@dataclass(frozen=True, slots=True)
class Wait:
    """Until somebody answers, or until then.  until  may be infinite"""

    until: float


@dataclass(frozen=True, slots=True)
class Fail:
    """Nobody will answer.  is_late  because the time is over"""

    is_late: bool


Step: TypeAlias = Ask | GiveUp | Wait | Fail


def next_step(race: Race, now: float) -> Step:
    """What to do now."""
    if now >= race.limit_at:
        return Fail(is_late=True)
    following = race.following if race.num_left > 0 else None
    if not race.running:
        return _begin(race, following, now)
    if following is None:
        if now >= race.patience_at:
            return GiveUp(race.running[0].target)
        return Wait(min(race.limit_at, race.patience_at))
    slow = min(race.running, key=lambda running: running.timeout_at)
    if now >= slow.timeout_at:
        return GiveUp(slow.target)
    can_hedge = race.hedge_at is not None and len(race.running) == 1
    if race.hedge_at is not None and can_hedge and now >= race.hedge_at:
        return Ask(following, "hedge")
    hedge_at = race.hedge_at if race.hedge_at is not None and can_hedge else INFINITE
    return Wait(min(race.limit_at, slow.timeout_at, hedge_at))


def _begin(race: Race, following: Target | None, now: float) -> Step:
    if following is not None:
        why: Why = "continued" if race.is_resuming else "failover" if race.has_begun else "first"
        return Ask(following, why)
    if race.again is None or race.num_left <= 0:
        return Fail(is_late=False)
    if now >= race.again.at:
        return Ask(race.again.target, "continued" if race.is_resuming else "retry")
    return Wait(min(race.limit_at, race.again.at))


def when_to_hedge(
    first: Callable[[float, float], float],
    second: Callable[[float], float],
    within_s: float,
    *,
    silent_s: float,
    margin: float,
) -> float | None:
    """Seconds from now after which asking the second place too is worth it; None: never within the budget.

    first     (in so many seconds, after so many of silence) -> chance that the first place's words come
    second    (in so many seconds) -> the same of the second place, if it is asked then
    within_s  seconds from now that the budget leaves;  silent_s  for which the first place has been silent
    """
    for step in range(NUM_HEDGE_STEPS):
        after_s = within_s * step / NUM_HEDGE_STEPS
        left_s = within_s - after_s
        chance = second(left_s)
        if chance <= margin:
            return None  # it only falls from here
        if chance - first(left_s, silent_s + after_s) > margin:
            return after_s
    return None


NUM_KNOWN = 10
"""Outcomes from which a place's times are its own rather than a prior's."""


def first_timeout_s(p99_s: float | None, num_seen: int, *, floor_s: float, factor: float, unseen_s: float) -> float:
    """How long a place is waited for while others are left.  One timeout for all would give up healthy slow places."""
    if p99_s is None or num_seen < NUM_KNOWN:
        return max(unseen_s, 0.0 if p99_s is None else factor * p99_s)
    return max(floor_s, factor * p99_s)


def stall_limit_s(
    itl_s: float | None, mean_gap_s: float, *, factor: float, floor_s: float, undated_s: float
) -> float:
    """Silence in the middle of an answer that counts as a stall.

    mean_gap_s  between what came so far: a place that speaks in large pieces is not silent between them
    """
    if itl_s is None:
        return max(undated_s, factor * mean_gap_s)
    return max(floor_s, factor * itl_s, factor * mean_gap_s)
