"""An agent's run: one rest, shared by the steps that are still to come."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.budget import Budget, Deadline
from isochrone.routing.runs import NUM_STEPS_UNKNOWN, SHARE_MIN, Past, Runs, share_of, step_s, steps_to_come


@dataclass
class Record:
    id: str
    num_steps: int = 0
    age_s: float = 0.0
    took_s: float = 0.0
    left_s: float | None = None
    left_usd: float | None = None


@dataclass
class Store:
    """Fulfils `RunStore`."""

    record: Record
    past: list[Record] = field(default_factory=list)
    steps: list[tuple[str, str, float]] = field(default_factory=list)

    async def begin(self, owner: str, id: str, *, workflow: str = "", total_s=None, cost_usd=None) -> Record:
        return self.record

    def step(self, owner: str, id: str, *, cost_usd: float, facts: bytes | None = None) -> bool:
        self.steps.append((owner, id, cost_usd))
        return True

    async def history(self, owner: str, workflow: str, num_wanted: int = 100) -> list[Record]:
        return self.past


def test_steps_to_come_are_those_of_runs_that_came_as_far() -> None:
    past = [Past(4, 8.0), Past(6, 12.0), Past(1, 1.0)]
    assert steps_to_come(0, past) == pytest.approx((3 + 5 + 0) / 3)
    assert steps_to_come(3, past) == pytest.approx((0 + 2) / 2)
    assert steps_to_come(6, past) == 0.0
    assert steps_to_come(0, []) == NUM_STEPS_UNKNOWN
    assert step_s(past) == pytest.approx(21 / 11) and step_s([]) is None


@given(st.floats(0, 1e4), st.integers(0, 50), st.lists(st.builds(Past, st.integers(1, 40), st.floats(0, 1e3))))
def test_a_share_is_never_more_than_the_rest_nor_next_to_nothing(left: float, num_done: int, past: list[Past]) -> None:
    assert SHARE_MIN * left <= share_of(left, num_done, past) <= left


def test_shares_that_are_used_up_leave_something_for_every_step() -> None:
    left, past = 30.0, [Past(6, 12.0)]
    for num_done in range(6):
        share = share_of(left, num_done, past)
        assert share == pytest.approx(5.0)
        left -= share
    assert left == pytest.approx(0.0)


async def test_without_a_ledger_a_run_lasts_as_long_as_the_process_and_limits_only_tighten() -> None:
    now = [100.0]
    runs = Runs(None, lambda: now[0])
    await runs.begin("t", "r", total_s=60.0, cost_usd=0.5)
    now[0] = 110.0
    run = await runs.begin("t", "r", total_s=60.0, cost_usd=0.9)
    assert (run.limit_at, run.left_usd) == (160.0, 0.5)
    run = await runs.begin("t", "r", total_s=20.0)
    assert run.limit_at == 130.0
    assert runs.find("u", "r") is None and runs.find("t", "r") is run


async def test_a_step_ends_where_its_run_ends() -> None:
    runs = Runs(None, lambda: 100.0)
    run = await runs.begin("t", "r", total_s=20.0, cost_usd=0.1)
    step = Deadline.start(Budget(total_s=50.0, cost_usd=0.5), 100.0)
    assert runs.tightened(run, step, is_dated=True).total_at == 120.0
    assert runs.tightened(run, step, is_dated=True).cost_usd == 0.1
    undated = Deadline.start(Budget(), 100.0)
    long = await runs.begin("t", "long", total_s=900.0)
    assert runs.tightened(long, undated, is_dated=False).total_at == 1000.0
    runs.stepped(run, cost_usd=0.3)
    assert runs.tightened(run, step, is_dated=True).cost_usd == 0.0


async def test_a_run_goes_on_from_what_the_ledger_has_and_tells_it_of_each_step() -> None:
    past = [Record("old", 5, took_s=10.0), Record("r", 2, took_s=3.0), Record("none", 0)]
    store = Store(Record("r", num_steps=2, left_s=12.0, left_usd=0.3), past)
    runs = Runs(store, lambda: 100.0)
    run = await runs.begin("t", "r", workflow="w")
    assert run.past == [Past(5, 10.0)]
    assert runs.share_s(run, 100.0) == pytest.approx(4.0) and runs.share_usd(run) == pytest.approx(0.1)
    left = runs.left(run, cost_usd=0.1, now=104.0)
    assert (left.num_steps, left.total_s, left.steps_s) == (3, 8.0, 2.0 * 1)
    assert left.cost_usd == pytest.approx(0.2)
    runs.stepped(run, cost_usd=0.1)
    assert store.steps == [("t", "r", 0.1)] and run.num_steps == 3
