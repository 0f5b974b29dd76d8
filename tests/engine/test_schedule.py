"""The plan of a step: within its limits, earliest first, and nobody starves."""

import copy
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.engine.schedule import Chunk, Limits, Standing, plan_step, rank
from isochrone.predict.pace import Pace

NOW = 100.0


def limits(**changes):
    defaults = {
        "num_running_max": 4,
        "num_step_tokens": 16,
        "num_mixed_tokens": 16,
        "num_rows_max": 16,
        "page_tokens": 4,
    }
    return Limits(**{**defaults, **changes})


def decoding(id, *, num_tokens=9, order_at=200.0, **more):
    return Standing(
        id=id, order_at=order_at, arrived_at=0.0, num_tokens=num_tokens, num_computed=num_tokens - 1,
        num_pages=-(-(num_tokens - 1) // 4), num_pages_private=-(-(num_tokens - 1) // 4), **more,
    )  # fmt: skip


def prompt(id, num_tokens, *, order_at=200.0, **more):
    return Standing(id=id, order_at=order_at, arrived_at=0.0, num_tokens=num_tokens, **more)


def admitted(standing):
    standing.num_pages = -(-standing.num_tokens // 4)
    return standing


def test_decode_comes_before_any_prompt_and_prompts_fill_the_rest():
    plan = plan_step([decoding(1), admitted(prompt(2, 40))], [], limits(), 50, NOW)
    assert plan.decode == (1,) and plan.prefill == (Chunk(2, 15),)


def test_an_urgent_newcomer_goes_before_a_prompt_already_begun():
    plan = plan_step([admitted(prompt(1, 40, order_at=160.0))], [prompt(2, 10, order_at=101.0)], limits(), 50, NOW)
    assert plan.admit == (2,) and plan.prefill == (Chunk(2, 10), Chunk(1, 6))


def test_equal_deadlines_go_by_arrival():
    late, early = prompt(1, 16), prompt(2, 16)
    late.arrived_at = 5.0
    assert plan_step([], sorted([late, early], key=rank), limits(), 50, NOW).prefill == (Chunk(2, 16),)


def test_while_somebody_decodes_the_mixed_limit_bounds_the_step():
    bounds = limits(num_mixed_tokens=6)
    assert plan_step([decoding(1), admitted(prompt(2, 40))], [], bounds, 50, NOW).prefill == (Chunk(2, 5),)
    assert plan_step([admitted(prompt(2, 40))], [], bounds, 50, NOW).prefill == (Chunk(2, 16),)


def test_a_scored_prompt_takes_a_row_a_token():
    plan = plan_step([admitted(prompt(1, 40, needs_rows=True))], [], limits(num_rows_max=7), 50, NOW)
    assert plan.prefill == (Chunk(1, 7),)


def test_the_expired_end_and_give_their_slots_to_the_next_step():
    running = [decoding(id, total_at=NOW) for id in range(4)]
    plan = plan_step(running, [prompt(9, 4), prompt(10, 4, total_at=NOW - 1)], limits(), 50, NOW)
    assert plan.expire == (0, 1, 2, 3, 10) and plan.decode == () and plan.admit == ()


def test_when_pages_run_out_the_latest_leaves():
    running = [decoding(1, order_at=101.0), decoding(2, order_at=150.0), decoding(3, order_at=190.0)]
    plan = plan_step(running, [prompt(4, 4)], limits(), 0, NOW)
    assert plan.preempt == (3,) and plan.decode == (1, 2) and plan.admit == ()


def test_the_latest_waits_with_its_pages_when_only_it_lacks_one():
    running = [decoding(1, num_tokens=10), decoding(2, num_tokens=9)]
    running[0].num_pages = 3
    plan = plan_step(running, [], limits(), 0, NOW)
    assert plan.preempt == () and plan.decode == (1,)


def test_nobody_overtakes_for_memory():
    plan = plan_step([decoding(1)], [prompt(2, 40, order_at=150.0), prompt(3, 4, order_at=160.0)], limits(), 9, NOW)
    assert plan.admit == ()


def test_pages_that_others_hold_need_not_be_found():
    plan = plan_step([decoding(1)], [prompt(2, 40, num_computed=32, num_pages_shared=8)], limits(), 4, NOW)
    assert plan.admit == (2,) and plan.prefill == (Chunk(2, 8),)


def test_a_sibling_waits_until_the_prompt_is_cached():
    plan = plan_step([], [prompt(1, 8), prompt(2, 8, is_held_back=True), prompt(3, 4)], limits(), 50, NOW)
    assert plan.admit == (1, 3)


def test_limits_that_could_starve_a_sequence_are_our_mistake():
    with pytest.raises(AssertionError):
        limits(num_rows_max=3)


def test_nobody_joins_streams_that_could_not_bear_one_more():
    pace = Pace((2e-3, 1e-3, 0.0, 0.0), weight=100.0)
    running = [decoding(1, itl_s=0.005), decoding(2)]
    assert plan_step(running, [prompt(9, 4)], limits(), 50, NOW, pace).admit == ()
    assert plan_step([decoding(1, itl_s=0.010), decoding(2)], [prompt(9, 4)], limits(), 50, NOW, pace).admit == (9,)
    assert plan_step(running, [], limits(), 50, NOW, pace).decode == (1, 2), "who runs already stays"


@st.composite
def worlds(draw):
    bounds = limits(num_running_max=draw(st.integers(1, 6)), num_mixed_tokens=draw(st.integers(6, 16)))
    instants = st.sampled_from([90.0, 101.0, 150.0, 200.0, 500.0])
    running, waiting = [], []
    for id in range(draw(st.integers(0, bounds.num_running_max))):
        s = Standing(id=id, order_at=draw(instants), arrived_at=draw(instants), num_tokens=draw(st.integers(1, 60)))
        s.total_at = draw(st.sampled_from([math.inf, 99.0, 300.0]))
        s.num_computed = draw(st.integers(0, s.num_tokens - 1))
        if draw(st.booleans()):
            s.num_computed = s.num_tokens - 1
        decodes = s.num_computed == s.num_tokens - 1
        s.num_pages = -(
            -(s.num_computed + (0 if decodes and draw(st.booleans()) else s.num_tokens - s.num_computed)) // 4
        )
        s.num_pages_private = draw(st.integers(0, s.num_pages))
        s.needs_rows = draw(st.booleans())
        running.append(s)
    for id in range(100, 100 + draw(st.integers(0, 6))):
        s = Standing(id=id, order_at=draw(instants), arrived_at=draw(instants), num_tokens=draw(st.integers(1, 60)))
        s.num_pages_shared = draw(st.integers(0, (s.num_tokens - 1) // 4))
        s.num_computed = 4 * draw(st.integers(s.num_pages_shared, (s.num_tokens - 1) // 4))
        s.needs_rows, s.is_held_back = draw(st.booleans()), draw(st.booleans())
        waiting.append(s)
    return sorted(running, key=rank), sorted(waiting, key=rank), bounds, draw(st.integers(0, 40))


@given(worlds())
def test_any_plan_stays_within_its_limits_and_changes_nothing(world):
    running, waiting, bounds, num_pages = world
    before = copy.deepcopy(world)
    plan = plan_step(running, waiting, bounds, num_pages, NOW)
    assert world == before and plan == plan_step(running, waiting, bounds, num_pages, NOW)
    by_id = {s.id: s for s in running + waiting}
    chunks = {chunk.id: chunk.num_tokens for chunk in plan.prefill}
    assert len(plan.decode) + sum(chunks.values()) <= bounds.num_step_tokens
    assert all(0 < num <= by_id[id].num_tokens - by_id[id].num_computed for id, num in chunks.items())
    rows = len(plan.decode) + sum(
        num if by_id[id].needs_rows else num == by_id[id].num_tokens - by_id[id].num_computed
        for id, num in chunks.items()
    )
    assert rows <= bounds.num_rows_max
    assert len(running) - len(plan.preempt) + len(plan.admit) <= bounds.num_running_max
    assert set(plan.admit) <= set(chunks) and not set(plan.admit) & {s.id for s in running}
    grown = sum(by_id[id].num_computed == 4 * by_id[id].num_pages for id in plan.decode)
    new = sum(-(-by_id[id].num_tokens // 4) - by_id[id].num_pages_shared for id in plan.admit)
    assert grown + new <= num_pages + sum(by_id[id].num_pages_private for id in plan.preempt)
    gone = set(plan.expire) | set(plan.preempt)
    assert not gone & (set(plan.decode) | set(chunks)) and len(gone) == len(plan.expire) + len(plan.preempt)


@given(worlds())
def test_the_earliest_that_runs_always_moves_unless_the_others_must_leave_first(world):
    running, waiting, bounds, num_pages = world
    alive = [s for s in running if s.total_at > NOW]
    plan = plan_step(running, waiting, bounds, num_pages, NOW)
    if alive:
        earliest = alive[0]
        assert earliest.id not in plan.preempt
        moves = earliest.id in plan.decode or earliest.id in {chunk.id for chunk in plan.prefill}
        overtaken = any(rank(s) < rank(earliest) for s in waiting)
        assert moves or overtaken or num_pages <= 0
        if not moves and not overtaken:
            assert set(plan.preempt) | {earliest.id} == {s.id for s in alive}, "it waits only for pages that come now"
