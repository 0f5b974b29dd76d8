"""The figures of the soak and of the listening tenant mean what they say, on data whose answer is known."""

from __future__ import annotations

import json
import random

import pytest

from benchmarks.soak import Held, Report, ask, slope
from benchmarks.tenants import Told


@pytest.mark.parametrize("leak", [0.0, 50.0, 400.0])
def test_a_leak_is_found_under_noise_and_the_first_half_does_not_count(leak: float) -> None:
    dice = random.Random(3)
    steady = 400_000_000 + dice.randrange(1000)
    warming = [(at, 300_000_000 + 9000 * at) for at in range(0, 10_000, 20)]
    rest = [(at, round(steady + leak * at + dice.gauss(0, 40_000))) for at in range(10_000, 20_000, 20)]
    found, high = slope(warming + rest)
    assert abs(found - leak) < 10 and found < high < found + 20


def test_too_few_looks_give_no_slope() -> None:
    with pytest.raises(ValueError, match="too few"):
        slope([(at, 1) for at in range(60)])


def test_what_grew_was_left_or_went_wrong_is_named() -> None:
    report = Report(before=Held(0, 0, 0, 0, 5, 30, 8), after=Held(2, 0, 0, 0, 5, 29, 8), slope_bytes_high=120.0)
    report.problems["tool: status 500"] += 1
    assert [fault.split()[0] for fault in report.faults] == ["tool:", "memory", "num_blocks_held"]
    read = json.loads(report.to_json())
    assert (read["problems"], read["after"]["num_blocks_held"]) == ({"tool: status 500": 1}, 2)


def test_each_kind_comes_and_is_the_same_for_the_same_seed() -> None:
    asks = [ask(index, random.Random(index)) for index in range(300)]
    assert len({one.kind for one in asks}) == 11 and asks[7] == ask(7, random.Random(7))
    assert all(json.loads(one.body)["model"] == "bench" for one in asks if one.kind != "broken")


def test_the_area_is_a_half_for_a_coin_and_one_for_a_certainty_either_way_round() -> None:
    dice = random.Random(1)
    coin = Told([dice.random() for _ in range(2000)], [dice.random() for _ in range(2000)])
    low, high = coin.interval(dice)
    assert coin.auc < 0.53 and low < 0.5 < high
    assert Told([1.0, 2.0], [3.0, 4.0]).auc == Told([3.0, 4.0], [1.0, 2.0]).auc == 1.0
