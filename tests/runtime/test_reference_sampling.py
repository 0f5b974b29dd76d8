"""The definition of sampling, against enumeration in exact arithmetic."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from isochrone.runtime.reference_sampling import Choice, draw, edited, likeliest, log_softmax, sample
from isochrone.runtime.step import SamplingRows

VOCAB = 37
few_values = st.sampled_from([-3.0, -1.0, 0.0, 0.5, 1.0, 2.0])
"""Few, so that ties are common."""
logit_rows = hnp.arrays(np.float32, VOCAB, elements=few_values)


def rows(count: int = 1, edits: tuple[tuple[int, float, float], ...] = (), mask=None, **changes) -> SamplingRows:
    """Greedy rows; the edits belong to the first."""
    tokens, factors, deltas = zip(*edits, strict=True) if edits else ((), (), ())
    filled = {
        "temperature": np.zeros(count, np.float32),
        "top_k": np.zeros(count, np.int32),
        "top_p": np.ones(count, np.float32),
        "min_p": np.zeros(count, np.float32),
        "uniform": np.zeros(count, np.float32),
        "targets": np.full(count, -1, np.int32),
        "edit_starts": np.array([0] + [len(edits)] * count, np.int32),
        "edit_tokens": np.array(tokens, np.int32),
        "edit_factors": np.array(factors, np.float32),
        "edit_deltas": np.array(deltas, np.float32),
    }
    return SamplingRows(**{**filled, **changes}, mask=mask)


def kept_by_enumeration(logits: np.ndarray, choice: Choice) -> dict[int, float]:
    """Token -> probability, from the words of the definition alone."""
    weight = {t: math.exp((float(v) - float(logits.max())) / choice.temperature) for t, v in enumerate(logits)}
    kept = dict(weight)
    if choice.top_k > 0:
        values = sorted(weight.values(), reverse=True)
        kept = {t: w for t, w in kept.items() if w >= values[min(choice.top_k, VOCAB) - 1]}
    if choice.top_p < 1:
        wanted, held, floor = choice.top_p * sum(kept.values()), 0.0, 0.0
        for w in sorted(kept.values(), reverse=True):
            held, floor = held + w, w
            if held >= wanted:
                break
        kept = {t: w for t, w in kept.items() if w >= floor}
    kept = {t: w for t, w in kept.items() if w >= choice.min_p}
    total = sum(kept.values())
    return {t: w / total for t, w in kept.items()}


@settings(max_examples=150, deadline=None)
@given(
    logits=logit_rows,
    temperature=st.sampled_from([0.3, 1.0, 2.5]),
    top_k=st.integers(0, VOCAB + 2),
    top_p=st.floats(0, 1),
    min_p=st.floats(0, 1),
)
def test_uniform_numbers_spread_evenly_give_each_kept_token_its_share(logits, temperature, top_k, top_p, min_p):
    choice = Choice(temperature, top_k, top_p, min_p)
    expected = kept_by_enumeration(logits, choice)
    # A cut within rounding of a token's own mass may go either way.
    neighbours = [
        kept_by_enumeration(logits, Choice(temperature, top_k, top_p * f, min_p)) for f in (1 - 1e-9, 1 + 1e-9)
    ]
    assume(all(other.keys() == expected.keys() for other in neighbours) or top_p in (0, 1))
    count = 200
    drawn = [draw(logits, Choice(temperature, top_k, top_p, min_p, (i + 0.5) / count)) for i in range(count)]
    assert drawn == sorted(drawn)  # the inverse of a cumulative sum in the order of ids
    for token in range(VOCAB):
        assert abs(drawn.count(token) / count - expected.get(token, 0.0)) <= 1 / count + 1e-9


@given(logit_rows)
def test_greedy_takes_the_lowest_id_among_equals(logits):
    assert draw(logits, Choice()) == min(np.flatnonzero(logits == logits.max()))


def test_the_last_uniform_number_still_lands_on_a_kept_token():
    logits = np.array([0.0, 5.0, -100.0], np.float32)
    assert draw(logits, Choice(1.0, top_k=2, uniform=float(np.float32(1 - 2**-24)))) == 1
    assert draw(logits, Choice(1.0, uniform=1.0)) == 2


@given(
    logits=logit_rows, bits=hnp.arrays(np.bool_, VOCAB), temperature=st.sampled_from([0.0, 1.0]), u=st.floats(0, 0.99)
)
def test_a_masked_token_is_never_drawn(logits, bits, temperature, u):
    padded = np.zeros(64, np.bool_)
    padded[:VOCAB] = bits
    mask = np.packbits(padded, bitorder="little").view("<u4")[None]
    step = rows(mask=mask, temperature=np.array([temperature], np.float32), uniform=np.array([u], np.float32))
    result = sample(logits[None], step, 0)
    assert bool(result.finite[0]) == bool(bits.any())
    assert not bits.any() or bits[result.tokens[0]]


def test_edits_divide_what_is_positive_multiply_what_is_not_and_then_add():
    logits = np.array([4.0, -4.0, 0.0, 1.0], np.float32)
    step = rows(edits=((0, 2.0, 0.5), (1, 2.0, 0.0), (2, 2.0, -1.0)))
    assert edited(logits, step, 0).tolist() == [2.5, -8.0, -1.0, 1.0]


def test_edits_steer_the_draw_but_not_the_logprob():
    logits = np.array([[1.0, 3.0, 2.0], [1.0, 3.0, 2.0]], np.float32)
    result = sample(logits, rows(2, edits=((1, 1.0, -100.0),)), 2)
    assert result.tokens.tolist() == [2, 1]  # the second row owns no edit
    scores = log_softmax(logits[0])
    np.testing.assert_allclose(result.logprobs, [scores[2], scores[1]], rtol=1e-6)
    assert result.top_tokens.tolist() == [[1, 2], [1, 2]]
    np.testing.assert_allclose(result.top_logprobs, [[scores[1], scores[2]]] * 2, rtol=1e-6)


def test_a_target_is_scored_and_not_drawn():
    logits = np.array([[1.0, 3.0, 2.0]], np.float32)
    result = sample(logits, rows(targets=np.array([0], np.int32)), 0)
    assert result.tokens.tolist() == [0]
    assert result.logprobs[0] == pytest.approx(1 - math.log(math.exp(1) + math.exp(3) + math.exp(2)))


def test_alternatives_are_best_first_and_the_lower_id_first_among_equals():
    tokens, scores = likeliest(np.array([0.0, 2.0, 2.0, 1.0]), 3)
    assert tokens.tolist() == [1, 2, 3] and scores.tolist() == [2.0, 2.0, 1.0]


@pytest.mark.parametrize("trouble", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_is_reported_and_spoils_no_other(trouble):
    logits = np.array([[1.0, 3.0, 2.0], [1.0, trouble, 2.0], [1.0, 3.0, 2.0]], np.float32)
    result = sample(logits, rows(3), 1)
    assert result.finite.tolist() == [True, False, True]
    assert result.tokens[[0, 2]].tolist() == [1, 1]


def test_probabilities_sum_to_one_however_large_the_logits():
    for shift in (-1e30, 0.0, 1e30):
        assert np.exp(log_softmax(np.full(8, shift, np.float32))).sum() == pytest.approx(1.0)
