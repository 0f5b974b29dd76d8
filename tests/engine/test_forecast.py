"""What is foreseen is what comes: the forecast beside an engine whose every step costs what it was told."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.engine.engine import Engine
from isochrone.engine.forecast import Decoding, Queued, Room, forecast
from isochrone.engine.records import SamplingParams, Submit, error_of
from isochrone.errors import CannotMeet
from isochrone.predict.pace import Pace
from isochrone.testing.runtime import FakeRuntime, SimulatedClock, fake_info

from .driver import run

GREEDY = SamplingParams(temperature=0, ignore_eos=True)
PACE = Pace((4e-3, 0.5e-3, 0.2e-3, 2e-7), weight=100.0)
ROOM = Room(num_slots=8, num_pages_free=1000)
queued = st.builds(Queued, st.integers(0, 500), st.integers(1, 2000), st.integers(1, 200), st.integers(1, 60))
decoding = st.builds(Decoding, st.integers(1, 900), st.integers(1, 200), st.integers(1, 30))


@given(st.lists(queued, min_size=1, max_size=8), st.lists(decoding, max_size=8), st.booleans())
def test_who_comes_later_begins_later_and_a_longer_queue_delays_nobody_before(queue, streams, urgent):
    times = forecast(queue, streams, ROOM, PACE, urgent=urgent)
    assert times == sorted(times) and times[0] > 0 and all(map(math.isfinite, times))
    assert forecast(queue[:-1], streams, ROOM, PACE, urgent=urgent) == times[:-1]


@given(st.lists(queued, min_size=1, max_size=8), st.lists(decoding, max_size=8))
def test_who_hurries_is_never_later(queue, streams):
    fast, calm = (forecast(queue, streams, ROOM, PACE, urgent=urgent) for urgent in (True, False))
    assert fast[0] <= calm[0] * (1 + 1e-9)


def test_without_a_free_slot_a_prompt_waits_for_the_first_stream_to_end():
    streams = [Decoding(100, 50, 4), Decoding(100, 90, 4)]
    (full,) = forecast([Queued(0, 10, 5, 1)], streams, Room(2, 1000), PACE, urgent=True)
    (free,) = forecast([Queued(0, 10, 5, 1)], streams, ROOM, PACE, urgent=True)
    assert full - free == pytest.approx(50 * PACE.factors[0], rel=0.5)


def test_without_pages_a_prompt_waits_for_those_of_a_stream():
    streams = [Decoding(100, 50, 40)]
    waits, goes = (forecast([Queued(0, 10, 5, 20)], streams, Room(8, n), PACE, urgent=True)[0] for n in (10, 100))
    assert waits > goes + 50 * PACE.factors[0]


def taught(make_engine, **more):
    engine = make_engine(num_pages=400, num_tokens_max=64, context=2048, **more)
    run(engine, [Submit(id=900 + k, prompt_ids=[k] * (20 * k), sampling=GREEDY, max_tokens=12) for k in range(1, 9)])
    return engine


@pytest.mark.parametrize("num", [1, 3, 8])
def test_first_tokens_come_when_they_were_predicted(make_engine, num):
    engine = taught(make_engine)
    submits = [Submit(id=k, prompt_ids=[k] * 90, sampling=GREEDY, max_tokens=12) for k in range(1, num + 1)]
    answers = run(engine, submits, arrive={k: 3 * k for k in range(1, num + 1)})
    for k in range(1, num + 1):
        timing = answers[k, 0].timing
        arrived_at = timing.admitted_at
        assert timing.predicted_ttft_s is not None and timing.first_token_at > arrived_at
        assert timing.predicted_ttft_s == pytest.approx(timing.first_token_at - arrived_at, rel=0.6, abs=0.05)


def refused(answers):
    return {id: error_of(answer.refusal) for (id, sample), answer in answers.items() if sample == -1}


def test_what_cannot_begin_in_time_is_refused_at_once_with_what_it_would_take(make_engine):
    engine = taught(make_engine)
    now = engine.clock()
    submit = Submit(id=1, prompt_ids=[3] * 500, sampling=GREEDY, max_tokens=4, arrived_at=now, ttft_at=now + 0.1)
    engine.submit(submit)
    (refusal,) = engine.step(now).refusals
    error = error_of(refusal)
    assert isinstance(error, CannotMeet) and error.status == 503 and error.retry_after_s >= 1.0
    assert 0.3 < error.predicted_s < 1.5 and "budget is 100 ms" in error.message
    assert engine.clock() == now, "nothing was run to find that out"


def test_nobody_is_taken_at_the_cost_of_one_who_was_promised(make_engine):
    engine = taught(make_engine)
    now = engine.clock()
    first = Submit(id=1, prompt_ids=[3] * 300, sampling=GREEDY, max_tokens=2, arrived_at=now, ttft_at=now + 0.5)
    second = Submit(id=2, prompt_ids=[4] * 300, sampling=GREEDY, max_tokens=2, arrived_at=now, ttft_at=now + 0.49)
    patient = Submit(id=3, prompt_ids=[5] * 300, sampling=GREEDY, max_tokens=2, arrived_at=now, ttft_at=now + 5.0)
    answers = run(engine, [first, second, patient])
    assert set(refused(answers)) == {2}
    assert answers[1, 0].timing.first_token_at <= now + 0.5
    assert answers[3, 0].timing.first_token_at <= now + 5.0


def test_a_stream_that_needs_tokens_faster_than_they_can_come_is_refused(make_engine):
    engine = taught(make_engine)
    error = refused(run(engine, [Submit(id=1, prompt_ids=[3], sampling=GREEDY, max_tokens=4, itl_s=0.0001)]))
    assert error == {} or isinstance(error[1], CannotMeet)
    for k in (1, 2, 3):
        engine.submit(Submit(id=k, prompt_ids=[k] * 9, sampling=GREEDY, max_tokens=50, arrived_at=engine.clock()))
    engine.step(engine.clock())
    engine.submit(Submit(id=4, prompt_ids=[3], sampling=GREEDY, max_tokens=4, itl_s=0.012))
    answers = run(engine)
    assert "the budget is itl=12 ms" in refused(answers)[4].message


def overloaded(seed, budget_s):
    """(requests taken, of these late): 120 arrivals at up to four times of what the engine can serve."""
    source, clock = random.Random(seed), SimulatedClock()
    engine = Engine(FakeRuntime(fake_info(num_pages=400, context=2048), clock=clock), clock=clock)
    engine.clock = clock
    run(engine, [Submit(id=900 + k, prompt_ids=[k] * (20 * k), sampling=GREEDY, max_tokens=12) for k in range(1, 9)])
    due_at, at, pending = {}, clock(), []
    for id in range(1, 121):
        at += source.expovariate(source.choice([5.0, 20.0]))
        shape = {"prompt_ids": [id % 97] * source.randint(1, 200), "max_tokens": source.randint(1, 20)}
        pending.append(Submit(id=id, arrived_at=at, ttft_at=at + budget_s, sampling=GREEDY, **shape))
        due_at[id] = at + budget_s
    taken, late = 0, 0
    while pending or engine.has_work:
        if not engine.has_work:
            clock.at = max(clock.at, pending[0].arrived_at)
        while pending and pending[0].arrived_at <= clock():
            engine.submit(pending.pop(0))
        for delta in engine.step(clock()).deltas:
            if delta.timing is not None:
                taken += 1
                late += delta.timing.first_token_at > due_at[delta.id]
    return taken, late


@pytest.mark.parametrize("budget_s", [0.3, 1.0, 3.0])
def test_under_overload_nearly_all_who_were_taken_are_in_time(budget_s):
    found = [overloaded(seed, budget_s) for seed in range(6)]
    taken, late = (sum(column) for column in zip(*found, strict=True))
    assert taken > 100 and late <= 0.05 * taken, f"{late} of {taken} were late: {found}"
