"""Online correction: it finds a constant error, follows a change, and survives nonsense."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.predict.correction import Correction, learn


def taught(ratios, predicted_s=0.1):
    correction = Correction()
    for ratio in ratios:
        correction = learn(correction, predicted_s=predicted_s, actual_s=predicted_s * ratio)
    return correction


def test_nothing_learned_changes_no_prediction():
    quantiles = Correction().apply(0.2)
    assert quantiles.s_p50 == 0.2
    assert quantiles.s_p50 < quantiles.s_p90 < quantiles.s_p95 < quantiles.s_p99 < 0.3


@given(st.floats(0.2, 5.0))
def test_a_constant_factor_is_found_and_the_quantiles_close_in(ratio):
    correction = taught([ratio] * 200)
    assert correction.apply(0.1).s_p50 == pytest.approx(0.1 * ratio, rel=0.05)
    assert correction.apply(0.1).s_p99 < 0.1 * ratio * 1.25
    assert correction.error < 0.2


def test_a_machine_that_became_slower_is_followed():
    correction = taught([1.0] * 500 + [2.0] * 200)
    assert correction.apply(0.1).s_p50 == pytest.approx(0.2, rel=0.06)


@pytest.mark.parametrize("seed", range(5))
def test_ninety_five_percent_lie_below_the_p95(seed):
    source = random.Random(seed)
    ratios = [math.exp(source.gauss(0.1, 0.3)) for _ in range(2000)]
    bound = taught(ratios[:1000]).apply(1.0).s_p95
    assert 0.90 < sum(ratio <= bound for ratio in ratios[1000:]) / 1000 < 0.99


@given(st.lists(st.tuples(st.floats(-1, 1e12), st.floats(-1, 1e12)), max_size=50))
def test_no_observation_breaks_the_correction(observations):
    correction = Correction()
    for predicted_s, actual_s in observations:
        correction = learn(correction, predicted_s=predicted_s, actual_s=actual_s)
    assert all(map(math.isfinite, (correction.bias, correction.variance, correction.weight, correction.error)))
    assert correction.variance >= 0.0 and correction.apply(1.0).s_p99 > 0.0
