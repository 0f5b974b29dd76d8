"""A budget is understood in every form, the tightest statement holds, and what is none is refused by name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.budget import BUDGET_CLASSES, Budget
from isochrone.errors import BadRequest
from isochrone.gateway.deadlines import budget_of


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
