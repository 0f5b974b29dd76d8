"""Who is let alone, and for how long: events in, states out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from isochrone.routing.breaker import (
    BARRED_S,
    CLOSED,
    OPEN_S,
    OPEN_S_MAX,
    PROBE_S,
    Answered,
    Breakers,
    Closed,
    Event,
    Failed,
    Open,
    Probing,
    Sent,
    Spoke,
    lets_through,
    on_event,
)

T = ("a", "m")


def after(*events: Event, now: float = 0.0):
    state = CLOSED
    for event in events:
        state = on_event(state, event, now)
    return state


def test_three_failures_in_a_row_open_it_and_two_do_not() -> None:
    assert isinstance(after(Failed(), Failed()), Closed)
    assert after(Failed(), Failed(), Failed(), now=5.0) == Open(5.0 + OPEN_S, 1)
    assert isinstance(after(Failed(), Failed(), Answered(), Failed(), Failed()), Closed)


def test_every_other_answer_failing_opens_it_in_the_end() -> None:
    assert isinstance(after(*[Failed(), Answered()] * 20), Open)
    assert after(*[Failed(), *[Answered()] * 9] * 20) != CLOSED
    assert isinstance(after(*[Failed(), *[Answered()] * 9] * 20), Closed)


def test_one_request_tries_it_and_decides() -> None:
    opened = after(Failed(), Failed(), Failed())
    at = OPEN_S
    assert not lets_through(opened, at - 0.1) and lets_through(opened, at)
    probing = on_event(opened, Sent(), at)
    assert isinstance(probing, Probing) and not lets_through(probing, at + 1.0)
    assert on_event(probing, Answered(), at + 1.0) == CLOSED
    assert on_event(probing, Failed(), at + 1.0) == Open(at + 1.0 + 2 * OPEN_S, 2)
    assert lets_through(probing, at + PROBE_S)  # the one that was sent never came back


def test_first_words_are_enough_to_let_the_others_in_again() -> None:
    probing = on_event(after(Failed(), Failed(), Failed()), Sent(), OPEN_S)
    assert on_event(probing, Spoke(), OPEN_S + 0.1) == CLOSED
    assert after(Failed(), Spoke()) == after(Failed()), "an answer is not kept before its end"


def test_a_place_that_bars_us_is_let_alone_at_once_and_for_long() -> None:
    assert after(Failed(is_barred=True)) == Open(BARRED_S, 1)


events = st.sampled_from([Sent(), Answered(), Failed(), Failed(True)])


@given(st.lists(st.tuples(events, st.floats(0, 50)), max_size=60))
def test_whatever_happens_it_lets_something_through_within_a_minute(steps: list[tuple[Event, float]]) -> None:
    state, now = CLOSED, 0.0
    for event, seconds in steps:
        now += seconds
        state = on_event(state, event, now)
        assert lets_through(state, now + OPEN_S_MAX)


def test_a_busy_place_is_not_an_ill_one() -> None:
    breakers = Breakers()
    breakers.busy(T, 10.0)
    assert not breakers.is_open_for(T, 9.0) and breakers.is_open_for(T, 10.0)
    assert breakers.is_merely_busy(T, 9.0) and breakers.state(T) == CLOSED
    for _ in range(3):
        breakers.note(T, Failed(), 9.0)
    assert not breakers.is_merely_busy(T, 9.5)
    breakers.forget("a")
    assert breakers.is_open_for(T, 9.0)
