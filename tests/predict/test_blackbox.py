"""What is learned of a place from outside: its pace, its queue, its scatter, and that it is calibrated."""

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.predict.blackbox import TTFT, BlackBox, Load, Prior, chance, chance_of_one
from isochrone.predict.calibration import LEVELS, Coverage, tracked
from isochrone.predict.lengths import Lengths


def taught(box: BlackBox, row: int, seed: int, num: int = 400) -> None:
    """A place that takes 0.1 s, 0.1 ms a token of the prompt and of those before it, give or take a tenth."""
    draw = random.Random(seed)
    for second in range(num):
        load = Load(draw.randrange(100, 5000), draw.choice([0, 0, 2000, 6000]), draw.randrange(6))
        actual_s = (0.1 + 1e-4 * (load.num_prompt + load.silent_prompt)) * math.exp(draw.gauss(0.0, 0.1))
        box.saw_ttft(row, load, network_s=0.0, actual_s=actual_s, now=float(second))


def test_a_place_is_learned_from_a_prior_that_is_ten_times_off():
    box = BlackBox()
    row = box.add(Prior(start_s=1.0, prompt_s=1e-5, spread=1.0))
    taught(box, row, seed=1)
    for load in (Load(500), Load(4000), Load(1000, 6000, 3)):
        expected_s = 0.1 + 1e-4 * (load.num_prompt + load.silent_prompt)
        assert box.median(row, load, 400.0)[0] == pytest.approx(expected_s, rel=0.25)


@pytest.mark.parametrize("seed", range(5))
def test_a_stated_p90_is_kept_in_nine_of_ten_cases_whatever_the_scatter(seed):
    draw, knots, coverage = random.Random(seed), [-0.5, 0.0, 0.5, 1.0], Coverage()
    for n in range(4000):
        residual = draw.choice([draw.gauss(0.3, 0.2), draw.expovariate(1.0)])
        coverage.observe(knots, residual)
        knots = tracked(knots, residual, num_seen=n)
    assert coverage.shares() == pytest.approx(LEVELS, abs=0.02)


def test_silence_that_was_cut_short_teaches_only_what_it_shows():
    knots = [-0.5, 0.0, 0.5, 1.0]
    moved = tracked(knots, 0.2, num_seen=50, at_least=True)
    assert moved[0] > knots[0] and moved[1] > knots[1]
    assert moved[2:] == knots[2:]


def test_a_full_machine_is_seen_before_the_first_late_answer():
    box = BlackBox()
    row = box.add(Prior(start_s=0.01, prompt_s=1e-4, itl_s=0.02, slots=8, spread=0.3))
    quiet_s, _ = box.median(row, Load(500, 0, 3), 0.0)
    full_s, _ = box.median(row, Load(500, 0, 16), 0.0)
    stuck_s, _ = box.median(row, Load(500, 0, 3, silent_s=4.0), 0.0)
    assert full_s > 4 * quiet_s and stuck_s > 3.0


@given(
    prompt=st.floats(1, 1e5), queued=st.floats(0, 1e5), flying=st.floats(0, 100), more=st.floats(0, 1e4),
    seed=st.integers(0, 3),
)  # fmt: skip
def test_more_work_never_looks_quicker(prompt, queued, flying, more, seed):
    box = BlackBox()
    row = box.add()
    taught(box, row, seed, num=30)
    base_s, _ = box.median(row, Load(prompt, queued, flying), 30.0)
    assert box.median(row, Load(prompt + more, queued, flying), 30.0)[0] >= base_s * (1 - 1e-9)
    assert box.median(row, Load(prompt, queued + more, flying), 30.0)[0] >= base_s * (1 - 1e-9)
    assert box.median(row, Load(prompt, queued, flying + more), 30.0)[0] >= base_s * (1 - 1e-9)


@given(ratio=st.floats(-4, 4), steps=st.lists(st.floats(0.01, 1.0), min_size=3, max_size=3))
def test_one_chance_and_many_are_the_same_function(ratio, steps):
    low, middle, high = steps
    knots = [-low, 0.0, middle, middle + high]
    many = chance(np.array([ratio]), np.array([knots]))
    assert many[0] == pytest.approx(chance_of_one(ratio, knots), abs=1e-9)
    assert chance_of_one(knots[2], knots) == pytest.approx(0.9, abs=1e-3)


def test_a_failure_weighs_little_and_is_forgotten():
    box = BlackBox()
    row = box.add()
    box.saw_end(row, failed=True, now=0.0)
    rows = np.array([row])
    assert 0.0 < box.failures(rows, 0.0)[0] < 0.05
    assert box.failures(rows, 300.0)[0] < 1e-4


def test_rows_survive_growing():
    box = BlackBox(capacity=1)
    first = box.add(Prior(start_s=0.2))
    taught(box, first, seed=2)
    before = box.median(first, Load(1000), 400.0), box.knots[first, 0, TTFT].tolist()
    for _ in range(5):
        box.add()
    assert (box.median(first, Load(1000), 400.0), box.knots[first, 0, TTFT].tolist()) == before


def test_lengths_follow_a_route_its_cap_and_what_was_said():
    lengths = Lengths()
    for _ in range(200):
        lengths.observe("title", 10)
        lengths.observe("essay", 1000)
    assert lengths.points("title").max() < 40 < lengths.points("essay").min()
    assert lengths.points("essay", num_max=100).max() == 100
    assert lengths.points("essay", num_said=2000).min() >= 2000
