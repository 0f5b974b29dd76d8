"""What to do next before the first words: from plain data to plain data."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.routing.execute.race import (
    INFINITE,
    Again,
    Ask,
    Fail,
    GiveUp,
    Race,
    Running,
    Wait,
    first_timeout_s,
    next_step,
    stall_limit_s,
    when_to_hedge,
)

A, B = ("a", "m"), ("b", "m")
NOW = 100.0


@pytest.mark.parametrize(
    ("race", "step"),
    [
        (Race(following=A), Ask(A, "first")),
        (Race(following=B, has_begun=True), Ask(B, "failover")),
        (Race(following=B, has_begun=True, is_resuming=True), Ask(B, "continued")),
        (Race(), Fail(is_late=False)),
        (Race(following=A, num_left=0), Fail(is_late=False)),
        (Race(following=A, limit_at=NOW), Fail(is_late=True)),
        (Race((Running(A),), limit_at=NOW), Fail(is_late=True)),
        (Race((Running(A),)), Wait(INFINITE)),
        (Race((Running(A, NOW),)), Wait(INFINITE)),
        (Race((Running(A, NOW),), following=B), GiveUp(A)),
        (Race((Running(A, NOW),), following=B, num_left=0), Wait(INFINITE)),
        (Race((Running(A),), patience_at=NOW), GiveUp(A)),
        (Race((Running(A, NOW + 3),), following=B, hedge_at=NOW + 1), Wait(NOW + 1)),
        (Race((Running(A, NOW + 3),), following=B, hedge_at=NOW), Ask(B, "hedge")),
        (Race((Running(A, NOW + 3),), hedge_at=NOW), Wait(INFINITE)),
        (Race((Running(A), Running(B, NOW + 2)), following=("c", "m"), hedge_at=NOW), Wait(NOW + 2)),
        (Race(again=Again(A, NOW + 2)), Wait(NOW + 2)),
        (Race(again=Again(A, NOW)), Ask(A, "retry")),
        (Race(again=Again(A, NOW), num_left=0), Fail(is_late=False)),
        (Race(again=Again(A, NOW + 9), limit_at=NOW + 5), Wait(NOW + 5)),
    ],
)
def test_the_next_step_follows_from_who_was_asked_and_who_is_left(race: Race, step: object) -> None:
    assert next_step(race, NOW) == step


instants = st.floats(NOW - 10, NOW + 10) | st.just(INFINITE)


@given(
    st.builds(
        Race,
        running=st.lists(st.builds(Running, st.sampled_from([A, B]), instants), max_size=2).map(tuple),
        following=st.none() | st.just(("c", "m")),
        again=st.none() | st.builds(Again, st.just(A), instants),
        num_left=st.integers(0, 3),
        hedge_at=st.none() | instants,
        limit_at=instants,
        patience_at=instants,
        is_resuming=st.booleans(),
        has_begun=st.booleans(),
    )
)
def test_a_wait_always_ends_later_and_nothing_is_asked_beyond_what_is_allowed(race: Race) -> None:
    step = next_step(race, NOW)
    if isinstance(step, Wait):
        assert step.until > NOW
    if isinstance(step, Ask):
        assert race.num_left > 0 and NOW < race.limit_at
    if isinstance(step, GiveUp):
        assert step.target in [running.target for running in race.running]


def exponential(mean_s: float):
    from math import exp

    return lambda within_s: 1 - exp(-max(0.0, within_s) / mean_s)


def test_no_second_place_is_asked_while_the_first_is_as_likely() -> None:
    chance = exponential(0.1)
    assert when_to_hedge(lambda s, _: chance(s), chance, 1.0, silent_s=0.0, margin=0.1) is None


def test_a_second_place_is_asked_once_silence_has_made_the_first_unlikely() -> None:
    def first(within_s: float, silent_s: float) -> float:
        return 0.98 if silent_s < 0.3 else 0.2

    after_s = when_to_hedge(first, exponential(0.1), 1.0, silent_s=0.0, margin=0.1)
    assert after_s is not None and 0.3 <= after_s < 0.4
    assert when_to_hedge(first, exponential(0.1), 0.7, silent_s=0.3, margin=0.1) == 0.0


def test_a_second_place_that_would_be_late_too_is_not_asked() -> None:
    assert when_to_hedge(lambda s, _: 0.0, lambda s: 0.05, 1.0, silent_s=0.0, margin=0.1) is None


def test_a_slow_place_is_given_its_own_time_and_an_unknown_one_plenty() -> None:
    settings = {"floor_s": 1.0, "factor": 2.0, "unseen_s": 30.0}
    assert first_timeout_s(0.2, 100, **settings) == 1.0
    assert first_timeout_s(20.0, 100, **settings) == 40.0
    assert first_timeout_s(0.2, 0, **settings) == 30.0
    assert first_timeout_s(20.0, 0, **settings) == 40.0
    assert first_timeout_s(None, 100, **settings) == 30.0


def test_a_stall_is_measured_by_the_callers_tokens_and_by_the_places_own_pieces() -> None:
    settings = {"factor": 8.0, "floor_s": 0.75, "undated_s": 10.0}
    assert stall_limit_s(0.05, 0.01, **settings) == 0.75
    assert stall_limit_s(0.2, 0.01, **settings) == 1.6
    assert stall_limit_s(0.05, 0.5, **settings) == 4.0
    assert stall_limit_s(None, 0.01, **settings) == 10.0
