"""The choice: what rules a target out, which of the rest wins, and that the record says why."""

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isochrone.places.place import Price
from isochrone.predict.blackbox import Prior
from isochrone.routing.outlook import Outlook
from isochrone.routing.policy import PolicySettings, choose
from isochrone.routing.records import Ask, Candidate, Outcome, Quantiles

SLOW, FAST = Prior(start_s=0.6, prompt_s=1e-5, spread=0.1), Prior(start_s=0.05, prompt_s=1e-5, spread=0.1)
CHEAP, DEAR = Price(0.1, 0.4), Price(1.0, 4.0)
ASK = Ask("m", "tenant", 500, ttft_s=2.0, route="chat")
PLAIN = PolicySettings(explore_share=0.0)


def decided(ask, *candidates, priors=None, draw=lambda: 0.0, settings=PLAIN, outcomes=()):
    outlook = Outlook({(name, "m"): prior for name, prior in (priors or {}).items()})
    for outcome in outcomes:
        outlook.observe(outcome)
    return choose(ask, candidates, outlook.see(ask, candidates, now=0.0), draw, settings)


def at(name, **facts):
    return Candidate(name, "m", **{"price": CHEAP, **facts})


PRIORS = {"slow": SLOW, "fast": FAST}


def test_the_cheapest_that_keeps_the_budget_wins_and_a_tight_budget_buys_the_dearer():
    slow, fast = at("slow"), at("fast", price=DEAR)
    assert decided(ASK, slow, fast, priors=PRIORS).chosen == ("slow", "m")
    assert decided(replace(ASK, ttft_s=0.2), slow, fast, priors=PRIORS).chosen == ("fast", "m")


def test_among_equals_in_cost_the_slower_is_taken_and_the_fast_kept_free():
    decision = decided(replace(ASK, ttft_s=5.0), at("fast"), at("slow"), priors=PRIORS)
    assert decision.chosen == ("slow", "m")
    assert {row.place: row.verdict for row in decision.rows} == {"slow": "chosen", "fast": "equal, and kept free"}


@pytest.mark.parametrize(
    ("facts", "asked", "reason"),
    [
        ({"is_open": False}, {}, "breaker open"),
        ({"headroom": 0.0}, {}, "quota used up"),
        ({}, {"needs": frozenset({"tools"})}, "cannot do tools"),
        ({"context": 400}, {}, "context of 400 is too short"),
        ({"quality": 0.4}, {"quality": 0.6}, "quality 0.4 is below 0.6"),
        ({}, {"quality": 0.6}, "quality unknown"),
        ({"location": "us-east-1"}, {"scope": "region:eu"}, "us-east-1 is outside eu"),
        ({}, {"cost_usd": 1e-9}, "costs 0.00014 usd"),
    ],
)  # fmt: skip
def test_what_cannot_or_may_not_answer_is_ruled_out_and_the_row_says_why(facts, asked, reason):
    decision = decided(replace(ASK, **asked), at("slow", **facts), priors=PRIORS)
    assert decision.chosen is None and decision.order == ()
    assert decision.rows[0].verdict.split(" usd")[0].split("0.")[0] == reason.split(" usd")[0].split("0.")[0]


def test_without_a_likely_target_the_likeliest_is_taken_and_strict_callers_are_refused():
    hopeless = replace(ASK, ttft_s=0.058)
    assert decided(hopeless, at("slow"), at("fast"), priors=PRIORS).chosen == ("fast", "m")
    assert decided(replace(hopeless, strict=True), at("slow"), at("fast"), priors=PRIORS).chosen is None


def test_a_target_nobody_knows_gets_few_requests_at_a_time():
    new, known = at("new", price=Price(), num_in_flight=3), at("slow")
    decision = decided(replace(ASK, ttft_s=30.0), new, known, priors=PRIORS)
    assert decision.chosen == ("slow", "m")
    assert decision.rows[0].verdict == "too little known for more at once"


def test_a_prompt_that_is_cached_makes_staying_cheaper_than_leaving():
    price = Price(1.0, 1.0, 0.1)
    ask = replace(ASK, num_prompt=5000)
    here, there = at("slow", price=price, num_cached=4900), at("fast", price=Price(0.9, 1.0, 0.1))
    assert decided(ask, here, there, priors=PRIORS).chosen == ("slow", "m")


def test_a_place_that_failed_often_is_less_likely_and_a_silent_one_less_with_every_second():
    outcome = Outcome(("slow", "m"), "failed", 0.0, 0.0, 500)
    outlook = Outlook({("slow", "m"): SLOW})
    before = outlook.see(ASK, [at("slow")], now=0.0)
    outlook.observe(outcome)
    assert outlook.see(ASK, [at("slow")], now=0.0).p_within(0) < before.p_within(0)
    chances = [before.p_first_by(0, 1.0, silent_s) for silent_s in (0.0, 0.5, 0.7, 0.9, 1.0)]
    assert chances == sorted(chances, reverse=True) and chances[0] > 0.95 and chances[-1] == 0.0


CANDIDATES = st.lists(
    st.builds(
        Candidate,
        place=st.sampled_from("abcdefgh"), model=st.just("m"), price=st.builds(Price, st.floats(0, 9), st.floats(0, 9)),
        network=st.builds(Quantiles, st.floats(0, 0.2), st.just(0.3), st.just(0.4)),
        num_in_flight=st.integers(0, 60), silent_prompt=st.integers(0, 9000), is_open=st.booleans(),
        headroom=st.floats(0, 1), num_cached=st.integers(0, 500),
    ),
    max_size=8, unique_by=lambda one: one.place,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(candidates=CANDIDATES, seed=st.integers(0, 1000), ttft_s=st.floats(0.05, 20.0))
def test_every_decision_is_complete_and_its_probabilities_are_ones(candidates, seed, ttft_s):
    draw = random.Random(seed).random
    outlook = Outlook()
    ask = replace(ASK, ttft_s=ttft_s)
    forecast = outlook.see(ask, candidates, now=0.0)
    decision = choose(ask, candidates, forecast, draw, PolicySettings(explore_share=0.2))
    assert [row.place for row in decision.rows] == [one.place for one in candidates]
    assert 0.0 < decision.propensity <= 1.0
    assert len(set(decision.order)) == len(decision.order)
    able = {one.target for one in candidates if one.is_open and one.headroom > 0.01}
    assert able <= set(decision.order)
    assert decision.chosen == (decision.order[0] if decision.order else None)
    assert all(0.0 <= p <= 1.0 for p in forecast.p)


def test_the_stated_propensity_is_how_often_it_happens():
    candidates = [at(name, silent_prompt=n) for n, name in enumerate("abc")]
    outlook = Outlook({(name, "m"): FAST for name in "abc"})
    ask, draw = replace(ASK, ttft_s=30.0), random.Random(3).random
    forecast = outlook.see(ask, candidates, now=0.0)
    made = [choose(ask, candidates, forecast, draw, PolicySettings(explore_share=0.3)) for _ in range(4000)]
    for target in forecast.targets:
        stated = {round(one.propensity, 6) for one in made if one.chosen == target}
        share = sum(one.chosen == target for one in made) / len(made)
        assert len(stated) == 1 and share == pytest.approx(stated.pop(), abs=0.03)
