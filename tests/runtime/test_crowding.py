"""The number of workers follows what steps tell of busy neighbours."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.runtime.crowding import (
    CROWDED_STEPS,
    PAUSE_CYCLES,
    PAUSE_CYCLES_MAX,
    Crew,
    after_step,
    is_held_up,
)

STEP = 10_000_000


def run(crew: Crew, steps: int, *, neighbours: int = 0) -> tuple[Crew, list[int]]:
    """Steps beside busy processes: whoever has one worker more than there are free cores waits nearly all the time."""
    sizes = []
    for _ in range(steps):
        crowded = crew.num_workers > crew.num_workers_max - neighbours
        crew = after_step(crew, STEP, int(STEP * 0.9 * (crew.num_workers - 1)) if crowded else STEP // 50)
        sizes.append(crew.num_workers)
    return crew, sizes


def test_alone_every_worker_stays() -> None:
    assert set(run(Crew(4, 4), 1000)[1]) == {4}


def test_one_busy_neighbour_spares_one_worker_after_three_steps() -> None:
    _, sizes = run(Crew(4, 4), 20, neighbours=1)
    assert sizes == [4] * (CROWDED_STEPS - 1) + [3] * (20 - CROWDED_STEPS + 1)


def test_two_busy_neighbours_spare_two() -> None:
    assert run(Crew(4, 4), 30, neighbours=2)[1][-1] == 2


def test_the_last_worker_stays_whatever_happens() -> None:
    assert min(run(Crew(2, 2), 3000, neighbours=5)[1]) == 1


def test_beside_a_lasting_neighbour_few_steps_are_lost_to_trying_again() -> None:
    _, sizes = run(Crew(2, 2), 10_000, neighbours=1)
    assert sizes.count(2) <= 10_000 / (PAUSE_CYCLES_MAX / STEP) + 10


def test_when_the_neighbour_goes_the_worker_comes_back_for_good() -> None:
    crew, _ = run(Crew(2, 2), 2000, neighbours=1)
    crew, sizes = run(crew, PAUSE_CYCLES_MAX // STEP + 100)
    assert sizes[-50:] == [2] * 50 and crew.pause_cycles == PAUSE_CYCLES


def test_single_hiccups_change_nothing() -> None:
    crew = Crew(2, 2)
    for _ in range(200):
        crew = after_step(crew, STEP, STEP)
        for _ in range(3):
            crew = after_step(crew, STEP, 0)
        assert crew.num_workers == 2


@pytest.mark.parametrize(("num_workers", "waited_share", "expected"), [(1, 5, False), (2, 0.4, False), (2, 0.6, True),
                                                                      (4, 0.6, False), (4, 0.9, True)])  # fmt: skip
def test_uneven_work_is_no_neighbour(num_workers: int, waited_share: float, expected: bool) -> None:
    assert is_held_up(num_workers, STEP, int(waited_share * STEP)) is expected


@given(st.integers(1, 8), st.lists(st.tuples(st.integers(1, STEP), st.integers(0, 8 * STEP)), max_size=300))
def test_the_number_of_workers_stays_within_bounds_and_moves_by_one(
    most: int, steps: list[tuple[int, int]]
) -> None:  # fmt: skip
    crew = Crew(most, most)
    for step_cycles, waited_cycles in steps:
        after = after_step(crew, step_cycles, waited_cycles)
        assert 1 <= after.num_workers <= most and abs(after.num_workers - crew.num_workers) <= 1
        crew = after


def test_a_long_step_is_a_long_wait() -> None:
    crew, _ = run(Crew(2, 2), CROWDED_STEPS, neighbours=1)
    assert crew.num_workers == 1
    assert after_step(crew, PAUSE_CYCLES, 0).num_workers == 2
