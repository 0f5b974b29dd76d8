"""Another policy's outcome from recorded choices: unbiased where the recording explored, silent where it did not."""

import random
from dataclasses import dataclass

import pytest

from isochrone.routing.records import Ask, Decision, Quantiles, Row
from isochrone.routing.replay import RULES, Estimate, estimate, kept_budget

ASK = Ask("m", "tenant", 100, ttft_s=1.0)
ROWS = (
    Row("cheap", "m", "chosen", Quantiles(0.5, 1.0, 2.0), None, 0.6, 0.001),
    Row("dear", "m", "dearer", Quantiles(0.1, 0.2, 0.3), None, 0.99, 0.01),
    Row("shut", "m", "breaker open"),
)


@dataclass(frozen=True)
class Kept:
    decision: Decision
    kept: bool
    cost_usd: float
    ttft_s: float | None = 0.5
    ask: Ask = ASK


def recorded(num, share_dear, seed=1):
    """`cheap` keeps 6 budgets of 10 and `dear` all; `dear` is chosen with the share given."""
    draw = random.Random(seed)
    for _ in range(num):
        is_dear = draw.random() < share_dear
        place, propensity = ("dear", share_dear) if is_dear else ("cheap", 1.0 - share_dear)
        kept = is_dear or draw.random() < 0.6
        decision = Decision((place, "m"), (), ROWS, propensity)
        yield Kept(decision, kept, 0.01 if is_dear else 0.001)


@pytest.mark.parametrize(("rule", "goodput", "cost_usd"), [("cheapest", 0.6, 0.001), ("surest", 1.0, 0.01)])
def test_an_estimate_is_what_the_policy_would_have_come_to(rule, goodput, cost_usd):
    found = estimate(rule, RULES[rule], recorded(4000, 0.2))
    assert found.goodput == pytest.approx(goodput, abs=0.03) and found.cost_usd == pytest.approx(cost_usd)
    assert abs(found.goodput - goodput) <= 4 * found.goodput_error + 1e-9
    assert found.num_effective == pytest.approx(found.num_same) and found.num_requests == 4000


def test_what_was_never_chosen_is_not_known():
    assert estimate("surest", RULES["surest"], recorded(50, 0.0)) == Estimate("surest", 50, 0, 0.0, *4 * [None])


def test_weights_undo_what_the_recording_preferred():
    mixed = [
        Kept(Decision(("dear", "m"), (), ROWS, 0.9), True, 0.01),
        Kept(Decision(("dear", "m"), (), ROWS, 0.1), False, 0.01),
    ]
    assert estimate("surest", RULES["surest"], mixed).goodput == pytest.approx(0.1)


def test_rules_look_only_at_places_that_could_answer():
    assert RULES["cheapest"](ASK, ROWS) == ("cheap", "m") and RULES["fastest"](ASK, ROWS) == ("dear", "m")
    assert RULES["p95"](ASK, ROWS) == ("dear", "m") and RULES["cheapest"](ASK, ROWS[2:]) is None


def test_a_budget_is_kept_when_each_stated_part_is():
    ask = Ask("m", "t", 10, ttft_s=1.0, itl_s=0.1, total_s=5.0, cost_usd=0.01)
    facts = {"ttft_s": 0.9, "total_s": 4.0, "num_answer": 41, "cost_usd": 0.005}
    assert kept_budget(ask, **facts)
    late = ({"ttft_s": 1.1}, {"total_s": 5.1}, {"num_answer": 11}, {"cost_usd": 0.02}, {"ttft_s": None})
    assert not any(kept_budget(ask, **(facts | wrong)) for wrong in late)
