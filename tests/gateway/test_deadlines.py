"""A budget is understood in every form, the tightest statement holds (also the operator's), nonsense is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.budget import BUDGET_CLASSES, Budget, Policy, both_scopes
from isochrone.errors import BadRequest
from isochrone.gateway.deadlines import budget_of, stated
from isochrone.routing.geography import WORLD

ROUTED = Policy(is_routed=True, expect_scope=WORLD.expect_scope)


@pytest.mark.parametrize(
    ("headers", "body", "budget"),
    [
        ({}, None, Budget()),
        ({b"isochrone-budget": b"ttft=300ms, itl=50ms, total=5s"}, None, Budget(0.3, 0.05, 5.0)),
        ({b"isochrone-budget": b"total=2min"}, None, Budget(total_s=120.0)),
        ({b"isochrone-budget": b"voice, total=20s"}, None, Budget(0.5, 0.1, 20.0)),
        ({}, "chat", BUDGET_CLASSES["chat"]),
        ({}, {"ttft": "300ms", "total": "5 s"}, Budget(ttft_s=0.3, total_s=5.0)),
        ({b"x-slo-ttft-ms": b"200", b"x-slo-tpot-ms": b"40", b"x-deadline-ms": b"1500"}, None, Budget(0.2, 0.04, 1.5)),
        ({b"x-deadline-ms": b"1500", b"isochrone-budget": b"total=1s"}, {"total": "4s"}, Budget(total_s=1.0)),
    ],
)
def test_every_form_says_the_same(headers, body, budget):
    assert budget_of(headers, body) == budget


@pytest.mark.parametrize(
    ("headers", "body", "param", "words"),
    [
        ({b"isochrone-budget": b"cost=1"}, None, "Isochrone-Budget", "cost chooses between places"),
        ({}, {"quality": "high"}, "budget.quality", "Remove quality"),
        ({}, {"scope": "eu"}, "budget.scope", "Remove scope"),
        ({}, {"ttfb": "300ms"}, "budget.ttfb", "Was ttft meant?"),
        ({}, {"ttft": 300}, "budget.ttft", "has no unit"),
        ({}, {"ttft": "300"}, "budget.ttft", "has no unit"),
        ({}, {"ttft": "0s"}, "budget.ttft", "no time to answer in"),
        ({}, {"total": "30h"}, "budget.total", "no time to answer in"),
        ({}, "voce", "budget", "Was voice meant?"),
        ({}, [1], "budget", "neither a name nor an object"),
        ({b"isochrone-budget": b"ttft"}, None, "Isochrone-Budget", "no class of budgets"),
        ({b"isochrone-budget": b"ttft=soon"}, None, "Isochrone-Budget", "is no time"),
        ({b"isochrone-budget": b"ttft=1s," * 100}, None, "Isochrone-Budget", "longer than any budget"),
        ({b"x-slo-ttft-ms": b"0.5"}, None, "x-slo-ttft-ms", "whole milliseconds"),
        ({b"x-slo-tpot-ms": b"-1"}, None, "x-slo-tpot-ms", "whole milliseconds"),
    ],
)
def test_what_is_no_budget_is_refused_by_name(headers, body, param, words):
    with pytest.raises(BadRequest) as caught:
        budget_of(headers, body)
    assert caught.value.param == param and words in str(caught.value)


@given(
    st.binary(max_size=80), st.one_of(st.none(), st.text(max_size=20), st.dictionaries(st.text(max_size=6), st.text()))
)
def test_any_bytes_are_a_budget_or_a_refusal(header, body):
    try:
        budget = budget_of({b"isochrone-budget": header}, body)
    except BadRequest as error:
        assert error.param and error.fix
    else:
        stated = [s for s in (budget.ttft_s, budget.itl_s, budget.total_s) if s is not None]
        assert stated and all(1e-3 <= s <= 86400 for s in stated)


@pytest.mark.parametrize(
    ("headers", "body", "budget", "strict"),
    [
        ({b"isochrone-budget": b"cost=0.002usd, quality>=0.6, scope=site"}, None,
         Budget(cost_usd=0.002, quality=0.6, scope="site"), False),
        ({b"isochrone-budget": b"voice, quality >= 0.6, strict"}, None,
         Budget(ttft_s=0.5, itl_s=0.1, quality=0.6), True),
        ({}, {"cost": "$0.01", "quality": 0.5, "scope": "region:eu", "strict": True},
         Budget(cost_usd=0.01, quality=0.5, scope="region:eu"), True),
        ({}, {"quality": ">=0.5", "strict": False}, Budget(quality=0.5), False),
        ({b"isochrone-budget": b"cost=0.1usd, scope=region:eu"}, {"cost": "0.2 USD", "scope": "site"},
         Budget(cost_usd=0.1, scope="region:eu+site"), False),
    ],
)  # fmt: skip
def test_a_budget_for_several_places_says_cost_quality_and_scope(headers, body, budget, strict):
    assert stated(headers, body, ROUTED) == (budget, strict)


@pytest.mark.parametrize(
    ("headers", "body", "param", "words"),
    [
        ({b"isochrone-budget": b"cost=1"}, None, "Isochrone-Budget", "no currency"),
        ({b"isochrone-budget": b"cost=1eur"}, None, "Isochrone-Budget", "no currency"),
        ({}, {"cost": 1}, "budget.cost", "no unit"),
        ({}, {"cost": "2000000usd"}, "budget.cost", "no answer costs"),
        ({}, {"quality": "nan"}, "budget.quality", "no score from 0 to 1"),
        ({}, {"quality": 1.5}, "budget.quality", "no score from 0 to 1"),
        ({}, {"scope": "EU"}, "budget.scope", "no scope"),
        ({}, {"scope": "region:euu"}, "scope", "region:eu is nearest"),
        ({b"isochrone-budget": b"stict"}, None, "Isochrone-Budget", "Was strict meant?"),
    ],
)
def test_what_no_place_could_keep_is_refused_by_name(headers, body, param, words):
    with pytest.raises(BadRequest) as caught:
        stated(headers, body, ROUTED)
    assert caught.value.param == param and words in str(caught.value)


TIMES = st.none() | st.floats(0.001, 100)
SCOPES = st.sampled_from(["any", "local", "site", "region:eu", "region:us"])
BUDGETS = st.builds(Budget, TIMES, TIMES, TIMES, TIMES, st.none() | st.floats(0, 1), SCOPES)
SPOTS = st.sampled_from([("local", ()), ("site", ()), ("eu-west-1", ()), ("us-east-1", ()), ("eu-west-1", ("global",))])


@given(BUDGETS, BUDGETS, st.booleans(), SPOTS)
def test_a_caller_can_only_tighten_what_the_operator_asks(operator, caller, strict, spot):
    body = {name: f"{getattr(caller, field)}s" for name, field in (("ttft", "ttft_s"), ("total", "total_s"))
            if getattr(caller, field) is not None}  # fmt: skip
    body["scope"] = caller.scope
    budget, is_strict = stated({}, body, Policy(operator, strict, is_routed=True))
    for limit, found in ((operator.ttft_s, budget.ttft_s), (operator.total_s, budget.total_s)):
        assert limit is None or found <= limit
    assert budget.cost_usd == operator.cost_usd and budget.quality == operator.quality
    assert is_strict is strict
    if WORLD.allows(budget.scope, *spot):
        assert WORLD.allows(operator.scope, *spot) and WORLD.allows(caller.scope, *spot)


@given(BUDGETS, BUDGETS)
def test_the_order_of_tightening_does_not_matter(a, b):
    assert a.tightened(b) == b.tightened(a) and a.tightened(a) == a
    assert both_scopes(a.scope, "any") == a.scope and both_scopes(a.scope, a.scope) == a.scope
