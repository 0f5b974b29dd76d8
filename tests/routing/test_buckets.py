"""Allowances: trouble cannot multiply work."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from isochrone.routing.execute import Settings
from isochrone.routing.execute.buckets import Allowances

A, B = ("a", "m"), ("b", "m")


@given(st.integers(0, 400))
def test_hedges_are_a_small_share_of_requests(num_requests: int) -> None:
    allowances = Allowances(Settings(hedge_share=0.05, hedge_burst=3.0))
    num_hedges = 0
    for _ in range(num_requests):
        allowances.began(A)
        num_hedges += allowances.spend_hedge()
    assert num_hedges <= 3 + 0.05 * num_requests + 1


def test_nothing_is_hedged_while_much_fails() -> None:
    allowances = Allowances(Settings(hedge_failing_max=0.3))
    for _ in range(20):
        allowances.ended("failed", A)
        allowances.ended("cancelled", A)
    assert not allowances.spend_hedge()
    for _ in range(60):
        allowances.ended("answered", A)
    assert allowances.spend_hedge()


def test_each_place_has_its_own_allowance_of_further_attempts() -> None:
    allowances = Allowances(Settings(retry_burst=2.0, retry_share=0.5))
    assert [allowances.spend_retry(A) for _ in range(3)] == [True, True, False]
    assert not allowances.has_retry(A) and allowances.has_retry(B)
    for _ in range(2):
        allowances.began(A)
    assert allowances.spend_retry(A) and not allowances.spend_retry(A)
    allowances.forget("a")
    assert allowances.has_retry(A)


def test_a_place_that_keeps_what_it_is_given_takes_all_that_another_drops() -> None:
    allowances = Allowances(Settings(retry_burst=2.0, retry_share=0.0))
    for _ in range(10):
        allowances.spoke(B)
        allowances.ended("failed", A)
    for _ in range(100):
        assert allowances.has_retry(B)
        allowances.spend_retry(A)
        allowances.spend_retry(B)
    assert not allowances.has_retry(A)
    for _ in range(10):
        allowances.ended("refused", B)
    assert not allowances.has_retry(B), "it has stopped keeping them"
