"""Who is let alone for a while: a state machine for each target, which sees streams that die in the middle too.

    Closed  --three failures in a row, or many of late-->  Open  --its time is over-->  Probing
    Probing --the one request that is let through speaks--> Closed;  --it fails--> Open, for twice as long

A place that says when it will have room again is merely busy until then: that says nothing of its health.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

from .records import Target

NUM_IN_A_ROW = 3
FAILING_SHARE, NEWEST_WEIGHT = 0.4, 0.1
"""Share of late attempts that fail from which a target is let alone, and the newest attempt's weight in it."""
OPEN_S, OPEN_S_MAX, BARRED_S = 1.0, 60.0, 30.0
"""How long at first, at most, and for a place that does not accept our credentials."""
PROBE_S = 30.0
"""After so long without an outcome, another probe is let through."""


@dataclass(frozen=True, slots=True)
class Closed:
    """num_in_a_row  failures since the last answer;  failing_share: of late attempts, the newest weighing most"""

    num_in_a_row: int = 0
    failing_share: float = 0.0


@dataclass(frozen=True, slots=True)
class Open:
    """num_times  how often in a row it opened"""

    until: float
    num_times: int


@dataclass(frozen=True, slots=True)
class Probing:
    """One request was let through.  until  when another may be"""

    until: float
    num_times: int


State: TypeAlias = Closed | Open | Probing


@dataclass(frozen=True, slots=True)
class Sent:
    """A request was sent there."""


@dataclass(frozen=True, slots=True)
class Spoke:
    """The first words of an answer came."""


@dataclass(frozen=True, slots=True)
class Answered:
    """It answered to the end, or refused in good health."""


@dataclass(frozen=True, slots=True)
class Failed:
    """It failed before, in or after its answer.  is_barred  it does not let us in, and soon trying again is no use"""

    is_barred: bool = False


Event: TypeAlias = Sent | Spoke | Answered | Failed
CLOSED = Closed()


def lets_through(state: State, now: float) -> bool:
    """Whether a request may be sent there."""
    return isinstance(state, Closed) or now >= state.until


def on_event(state: State, event: Event, now: float) -> State:
    """The state after what happened at that instant."""
    match state, event:
        case Open(until=until, num_times=num_times), Sent() if now >= until:
            return Probing(now + PROBE_S, num_times)
        case Probing(until=until, num_times=num_times), Sent() if now >= until:
            return Probing(now + PROBE_S, num_times)
        case _, Sent():
            return state
        case Closed(), Answered():
            return Closed(0, state.failing_share * (1.0 - NEWEST_WEIGHT)) if state != CLOSED else CLOSED
        case Probing(), Spoke() | Answered():
            return CLOSED
        case _, Spoke():
            return state
        case Open(), Answered():
            return state  # it was sent before the place failed, and says nothing of it now
        case Closed(), Failed(is_barred=is_barred):
            return _failed(state, is_barred, now)
        case Probing(num_times=num_times), Failed(is_barred=is_barred):
            return _open(num_times + 1, is_barred, now)
        case Open(), Failed():
            return state
    raise AssertionError((state, event))


def _failed(state: Closed, is_barred: bool, now: float) -> State:
    share = state.failing_share + NEWEST_WEIGHT * (1.0 - state.failing_share)
    if is_barred or state.num_in_a_row + 1 >= NUM_IN_A_ROW or share >= FAILING_SHARE:
        return _open(1, is_barred, now)
    return replace(state, num_in_a_row=state.num_in_a_row + 1, failing_share=share)


def _open(num_times: int, is_barred: bool, now: float) -> Open:
    seconds = min(OPEN_S_MAX, OPEN_S * 2.0 ** (num_times - 1))
    return Open(now + (max(BARRED_S, seconds) if is_barred else seconds), num_times)


class Breakers:
    """Of all targets."""

    def __init__(self) -> None:
        self._states: dict[Target, State] = {}
        self._busy_until: dict[Target, float] = {}

    def is_open_for(self, target: Target, now: float) -> bool:
        """Whether requests may pass: neither let alone nor busy."""
        state = self._states.get(target)
        if state is not None and not lets_through(state, now):
            return False
        return now >= self._busy_until.get(target, 0.0)

    def retry_at(self, target: Target, now: float) -> float:
        """When they may again; the past, where they may now."""
        state = self._states.get(target, CLOSED)
        until = 0.0 if isinstance(state, Closed) else state.until
        return max(until, self._busy_until.get(target, 0.0))

    def is_merely_busy(self, target: Target, now: float) -> bool:
        """It said when it will have room, and nothing else speaks against it."""
        return lets_through(self._states.get(target, CLOSED), now) and target in self._busy_until

    def state(self, target: Target) -> State:
        return self._states.get(target, CLOSED)

    def note(self, target: Target, event: Event, now: float) -> None:
        """Say what happened there."""
        before = self._states.get(target, CLOSED)
        after = on_event(before, event, now)
        if after is not before:
            if after == CLOSED:
                self._states.pop(target, None)
            else:
                self._states[target] = after

    def busy(self, target: Target, until: float) -> None:
        """It takes no more until then."""
        self._busy_until[target] = max(until, self._busy_until.get(target, 0.0))

    def forget(self, place: str) -> None:
        """The place has left the fleet."""
        for table in (self._states, self._busy_until):
            for target in [target for target in table if target[0] == place]:
                del table[target]
