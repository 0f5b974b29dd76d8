"""A prompt takes from the streams beside it what the tightest can bear, gets on always, and hurries when it must."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.engine.chunking import (
    DUE_SHARE,
    ITL_SHARE,
    NUM_CHUNK_MIN,
    STRETCH,
    URGENT_ITL_S_MAX,
    Prompt,
    Streams,
    idle_room,
    prompt_room,
    streams_max,
    tokens_needed,
    urgent_slowdown,
)
from isochrone.predict.pace import Pace, StepLoad

NOW = 100.0
PACE = Pace((4e-3, 0.5e-3, 0.2e-3, 2e-7), weight=100.0)


def streams(num=4, depth=300, **more):
    return Streams(StepLoad(num, num, num * depth), **more)


def step_s(beside, num_tokens, start=0):
    pairs = beside.load.num_pairs + num_tokens * (start + num_tokens / 2)
    return PACE.step_s(StepLoad(beside.load.num_tokens + num_tokens, beside.load.num_rows, pairs))


starts, counts = st.integers(0, 3000), st.integers(1, 64)


@given(counts, starts, st.floats(0.005, 1.0))
def test_the_step_keeps_to_the_tightest_stated_time(num, start, itl_s):
    beside = streams(num, itl_s=itl_s, has_unstated=False)
    room = prompt_room(beside, [Prompt(start, 4000, NOW + 0.001)], PACE, NOW)
    assert room == NUM_CHUNK_MIN or step_s(beside, room, start) <= itl_s * ITL_SHARE * (1 + 1e-9)


@given(counts, starts)
def test_a_calm_prompt_costs_streams_that_stated_nothing_less_than_twice_their_time(num, start):
    beside = streams(num)
    room = prompt_room(beside, [Prompt(start, 4000)], PACE, NOW)
    assert room == NUM_CHUNK_MIN or step_s(beside, room, start) <= STRETCH * step_s(beside, 0) * (1 + 1e-9)


@given(counts, starts, st.floats(0.01, 20.0))
def test_a_dated_prompt_never_costs_them_more_than_a_fifth_of_a_second(num, start, left_s):
    beside = streams(num)
    room = prompt_room(beside, [Prompt(start, 4000, NOW + left_s)], PACE, NOW)
    assert room == NUM_CHUNK_MIN or step_s(beside, room, start) <= max(URGENT_ITL_S_MAX, 2 * step_s(beside, 0)) + 1e-9


def test_the_less_time_is_left_the_larger_the_chunk_and_a_lost_prompt_is_calm_again():
    rooms = [prompt_room(streams(), [Prompt(0, 600, NOW + s)], PACE, NOW) for s in (60.0, 0.9, 0.7, 0.5, 0.4, 0.01)]
    assert rooms[0] == rooms[-1] and sorted(rooms[:-1]) == rooms[:-1] and rooms[-2] > 4 * rooms[0]


def test_stated_and_unstated_streams_both_count():
    prompts = [Prompt(0, 4000)]
    loose = prompt_room(streams(itl_s=10.0), prompts, PACE, NOW)
    assert loose == prompt_room(streams(), prompts, PACE, NOW)
    assert prompt_room(streams(itl_s=0.008), prompts, PACE, NOW) < loose


@given(st.lists(st.tuples(starts, st.integers(1, 2000), st.floats(0.1, 60.0)), min_size=1, max_size=6))
def test_the_chunk_that_is_needed_is_in_time_for_every_prompt_that_counts(queue):
    prompts = [Prompt(start, num, NOW + left_s) for start, num, left_s in queue]
    base_s = 0.01
    needed = tokens_needed(prompts, base_s, PACE, NOW)
    own_s, num_tokens = 0.0, 0
    for prompt in prompts:
        own_s += PACE.prompt_s(prompt.start, prompt.num_tokens)
        num_tokens += prompt.num_tokens
        if (prompt.due_at - NOW) * DUE_SHARE > own_s and needed:
            assert own_s + num_tokens / needed * base_s <= (prompt.due_at - NOW) * DUE_SHARE * (1 + 1e-9)


def test_prompts_alone_take_a_quarter_of_a_second_and_slow_models_whole_panels():
    assert 128 < idle_room([Prompt(0, 4000)], PACE) < 512
    slow = Pace(tuple(50 * factor for factor in PACE.factors), weight=100.0)
    assert idle_room([Prompt(0, 4000)], slow) == 128


@given(st.floats(0.001, 1.0), st.floats(0, 4000))
def test_as_many_streams_as_are_allowed_keep_the_time(itl_s, depth):
    num = streams_max(itl_s, depth, PACE)
    assert num == 1 or PACE.step_s(StepLoad(num, num, num * depth)) <= itl_s


def test_alone_a_prompt_is_not_slowed_and_beside_impossible_streams_it_never_ends():
    assert urgent_slowdown(StepLoad(0, 0, 0.0), math.inf, PACE) == 1.0
    assert urgent_slowdown(streams().load, math.inf, PACE) == pytest.approx(0.2 / (0.2 - step_s(streams(), 0)))
    assert urgent_slowdown(streams().load, 0.001, PACE) == math.inf
