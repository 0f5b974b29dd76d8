"""What is said of a few candidates is what is said of many: plain numbers and arrays agree."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.places.place import Price
from isochrone.predict.blackbox import Prior
from isochrone.routing.outlook import FEW, Forecast, Outlook
from isochrone.routing.records import Ask, Candidate, Outcome, Quantiles

NAMES = [f"place-{number}" for number in range(FEW)]
seconds = st.floats(0.001, 20.0)
asks = st.builds(
    Ask, model=st.just("m"), tenant=st.just("t"), num_prompt=st.integers(0, 20_000),
    num_answer_max=st.none() | st.integers(1, 4000), route=st.sampled_from(["", "t/m/chat"]),
    ttft_s=st.none() | seconds, itl_s=st.none() | seconds, total_s=st.none() | seconds,
)  # fmt: skip
prices = st.builds(Price, st.floats(0, 30), st.floats(0, 90), st.none() | st.floats(0, 30))


@st.composite
def fields(draw: st.DrawFn) -> list[Candidate]:
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=FEW))
    return [
        Candidate(
            name, "m", network=Quantiles(draw(seconds), 30.0, 40.0), price=draw(prices),
            num_in_flight=draw(st.integers(0, 50)), num_waiting=draw(st.none() | st.integers(0, 40)),
            num_cached=draw(st.integers(0, 300)), headroom=draw(st.floats(0.0, 1.0)),
            num_silent=draw(st.integers(0, 20)), silent_prompt=draw(st.integers(0, 30_000)),
            oldest_silent_s=draw(st.floats(0.0, 30.0)),
        )
        for name in names
    ]  # fmt: skip


outcomes = st.lists(
    st.builds(
        lambda name, kind, at, first_s, rest_s, num: Outcome(
            (name, "m"), kind, at, at + first_s + rest_s, 400, 20, num,
            None if kind in ("failed", "cancelled") else at + first_s, 2, 800, route="t/m/chat",
        ),
        st.sampled_from(NAMES), st.sampled_from(["answered", "failed", "stalled", "cancelled"]),
        st.floats(0, 50), seconds, seconds, st.integers(1, 500),
    ),
    max_size=12,
)  # fmt: skip


def taught(seen: list[Outcome]) -> Outlook:
    outlook = Outlook({(NAMES[0], "m"): Prior(slots=4), (NAMES[1], "m"): Prior(spread=0.2, itl_s=0.01)})
    for outcome in seen:
        outlook.observe(outcome)
    return outlook


@given(outcomes, asks, fields(), st.floats(50, 200))
def test_a_few_candidates_are_seen_as_many_are(
    seen: list[Outcome], ask: Ask, candidates: list[Candidate], now: float
) -> None:
    one, other = taught(seen), taught(seen)
    for _ in range(2):  # seeing raises the price of what is scarce, and the next look shows it
        few, many = one.see(ask, candidates, now=now), other._see_many(ask, candidates, now)
        assert few.targets == many.targets
        for name in Forecast.__slots__:
            if name not in ("targets", "knots"):
                assert getattr(few, name) == pytest.approx(getattr(many, name), rel=1e-9, abs=1e-12), name
        assert few.knots == many.knots
