"""What steps take is learned from steps: the price of each part, when the steps tell the parts apart."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.predict.pace import Pace, StepLoad, learn_step

FACTORS = (4e-3, 1.1e-3, 0.2e-3, 7e-7)


def true_s(load, factors=FACTORS):
    return sum(factor * term for factor, term in zip(factors, load.terms, strict=True))


def decode(num, depth):
    return StepLoad(num, num, num * depth)


def mixed(num, depth, start, num_prompt):
    return StepLoad(num + num_prompt, num, num * depth + num_prompt * (start + num_prompt / 2))


def varied(source, number):
    for _ in range(number):
        yield mixed(source.randint(0, 8), source.randint(50, 500), source.randint(0, 2000), source.choice([0, 8, 256]))


def taught(loads, factors=FACTORS, noise=None):
    pace = Pace()
    for load in loads:
        if load.num_tokens:
            pace = learn_step(pace, load, true_s(load, factors) * (noise() if noise else 1.0))
    return pace


def test_varied_steps_teach_every_factor():
    source = random.Random(1)
    pace = taught(varied(source, 400), noise=lambda: source.lognormvariate(0, 0.1))
    for load in varied(random.Random(2), 50):
        if load.num_tokens:
            assert pace.step_s(load) == pytest.approx(true_s(load), rel=0.1)


def test_a_thousand_decode_steps_alike_leave_the_price_of_a_prompt_where_it_was():
    pace = taught(varied(random.Random(1), 100))
    priced = pace.prompt_s(0, 512)
    for _ in range(1000):
        pace = learn_step(pace, decode(4, 300), true_s(decode(4, 300)))
    assert pace.step_s(decode(4, 300)) == pytest.approx(true_s(decode(4, 300)), rel=0.02)
    assert priced / 3 < pace.prompt_s(0, 512) < priced * 3


def test_a_machine_that_became_slower_is_believed_within_some_hundred_steps():
    pace = taught(varied(random.Random(1), 300))
    slower = tuple(2 * factor for factor in FACTORS)
    for load in varied(random.Random(3), 600):
        if load.num_tokens:
            pace = learn_step(pace, load, true_s(load, slower))
    assert pace.step_s(decode(4, 300)) == pytest.approx(true_s(decode(4, 300), slower), rel=0.1)


def test_one_step_in_which_the_machine_slept_changes_little():
    pace = taught(varied(random.Random(1), 300))
    asleep = learn_step(pace, decode(4, 300), 30.0)
    assert asleep.step_s(decode(4, 300)) < 1.5 * pace.step_s(decode(4, 300))


@pytest.mark.parametrize("step_s", [0.0, -1.0, float("nan"), float("inf")])
def test_what_is_no_duration_teaches_nothing(step_s):
    assert learn_step(Pace(), decode(1, 1), step_s) == Pace()


def test_nothing_is_known_before_a_few_steps():
    pace = Pace()
    for number in range(4):
        assert pace.is_known == (number >= 3)
        pace = learn_step(pace, decode(1, number), 0.01)


@given(
    st.integers(0, 60), st.integers(0, 4000), st.integers(0, 4000),
    st.floats(1e-4, 2.0), st.lists(st.floats(1e-4, 10.0), max_size=30), st.randoms(),
)  # fmt: skip
def test_a_chunk_fits_the_time_it_was_cut_for_and_one_token_more_would_not(num, depth, start, step_s, taken, source):
    pace = Pace()
    for seconds in taken:
        pace = learn_step(pace, mixed(source.randint(0, 4), 100, 50, source.randint(1, 64)), seconds)
    assert all(factor >= 0.0 for factor in pace.factors)
    beside = decode(num, depth)
    tokens = pace.chunk_tokens(beside, start, step_s)
    off = pace.offs[1 if num else 2]

    def planned_s(count):
        pairs = beside.num_pairs + count * (start + count / 2)
        return off * true_s(StepLoad(num + count, num, pairs), pace.factors)

    assert tokens == 0 or tokens >= 10**9 or planned_s(tokens) <= step_s * (1 + 1e-6)
    assert planned_s(tokens + 1) >= step_s * (1 - 1e-6) or tokens >= 10**9


def test_a_step_whose_expected_time_is_nothing_is_learned_like_any_other():
    nothing_known = replace(Pace(), factors=(0.0,) * len(Pace().factors), weight=20.0)
    learned = learn_step(nothing_known, decode(1, 100), 0.01)
    assert learned.step_s(decode(1, 100)) > 0.0


def test_where_tokens_seem_to_take_no_time_a_chunk_has_no_bound():
    free = replace(Pace(), factors=(0.0,) * len(Pace().factors))
    assert free.chunk_tokens(decode(0, 0), 0, 1e-4) >= 10**9
