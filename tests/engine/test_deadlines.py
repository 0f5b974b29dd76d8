"""Deadlines order, refuse and end; undated requests never starve."""

import msgspec
import pytest

from isochrone.engine.records import SamplingParams, Submit, error_of
from isochrone.errors import DeadlineExceeded

from .driver import alone, run

GREEDY = SamplingParams(temperature=0)


def first_tokens(engine, submits, **more):
    answers = run(engine, submits, **more)
    return sorted((s.id for s in submits), key=lambda id: answers[id, 0].timing.first_token_at)


def test_prompts_are_served_in_order_of_their_deadlines(make_engine):
    engine = make_engine(num_tokens_max=16)
    submits = [
        Submit(id=1, prompt_ids=[1] * 40, sampling=GREEDY, max_tokens=2),
        Submit(id=2, prompt_ids=[2] * 40, sampling=GREEDY, max_tokens=2, total_at=1030.0),
        Submit(id=3, prompt_ids=[3] * 40, sampling=GREEDY, max_tokens=2, ttft_at=1010.0),
        Submit(id=4, prompt_ids=[4] * 40, sampling=GREEDY, max_tokens=2, total_at=1020.0, ttft_at=1005.0),
    ]
    assert first_tokens(engine, submits) == [4, 3, 2, 1]


def test_a_request_past_its_deadline_is_refused_before_its_first_token(make_engine):
    engine = make_engine(limits={"num_running_max": 1})
    long = Submit(id=1, prompt_ids=[1], sampling=GREEDY, max_tokens=100)
    late = Submit(id=2, prompt_ids=[2], sampling=GREEDY, max_tokens=5, total_at=1000.5, arrived_at=1000.0)
    refusal = run(engine, [long, late], arrive={2: 3})[2, -1].refusal
    error = error_of(refusal)
    assert isinstance(error, DeadlineExceeded) and error.status == 504
    assert "after its deadline" in error.message and "x-deadline-ms" in error.fix


def test_an_answer_begun_ends_at_its_deadline_with_what_it_has(make_engine):
    engine = make_engine()
    submit = Submit(id=1, prompt_ids=[1], sampling=GREEDY, max_tokens=200, total_at=1000.4)
    answer = run(engine, [submit])[1, 0]
    assert answer.finish_reason == "deadline" and 0 < len(answer.token_ids) < 200
    assert answer.token_ids == alone(submit)[0].token_ids[: len(answer.token_ids)]


def test_samples_that_wait_end_with_their_siblings_at_the_deadline(make_engine):
    engine = make_engine(limits={"num_running_max": 1})
    params = SamplingParams(seed=1, n=3)
    answers = run(engine, [Submit(id=1, prompt_ids=[1], sampling=params, max_tokens=30, total_at=1000.5)])
    assert [answers[1, sample].finish_reason for sample in range(3)] == ["length", "deadline", "deadline"]


def test_an_undated_answer_is_never_ended_for_its_age(make_engine):
    engine = make_engine()
    engine.runtime.step_s = 10.0
    answer = run(engine, [Submit(id=1, prompt_ids=[1], sampling=GREEDY, max_tokens=50)])[1, 0]
    assert len(answer.token_ids) == 50 and engine.clock() > 1500


@pytest.mark.parametrize("num_pages", [8, 64])
def test_a_flood_of_urgent_requests_starves_no_undated_one(make_engine, num_pages):
    engine = make_engine(num_pages=num_pages, limits={"num_running_max": 2})
    engine.runtime.step_s = 0.5
    patient = Submit(id=0, prompt_ids=[7] * 30, sampling=GREEDY, max_tokens=8, arrived_at=1000.0)
    engine.submit(patient)
    answer, id = [], 0
    while len(answer) < 8:
        assert engine.clock() < 1000.0 + 60.0 + 30.0, "it waited longer than its own deadline and one service time"
        while len(engine.roster.waiting) < 5:
            id += 1
            engine.submit(
                Submit(
                    id=id,
                    prompt_ids=[id % 97] * 20,
                    sampling=GREEDY,
                    max_tokens=6,
                    arrived_at=engine.clock(),
                    ttft_at=engine.clock() + 1.0,
                )  # fmt: skip
            )
        for delta in engine.step(engine.clock()).deltas:
            answer += delta.token_ids if delta.id == 0 else []
    assert answer == alone(patient)[0].token_ids
    for id in list(engine.roster.requests):
        engine.cancel(id)


def test_the_latest_deadline_gives_way_when_memory_is_short(make_engine):
    engine = make_engine(page_tokens=4, num_pages=16)
    urgent = Submit(id=1, prompt_ids=[1] * 4, sampling=GREEDY, max_tokens=50, total_at=1030.0)
    patient = Submit(id=2, prompt_ids=[2] * 4, sampling=GREEDY, max_tokens=50)
    answers = run(engine, [patient, urgent])
    assert answers[1, 0].timing.num_preempted == 0 and answers[2, 0].timing.num_preempted > 0
    assert answers[2, 0].token_ids == alone(msgspec.structs.replace(patient))[0].token_ids


def test_once_it_has_its_first_token_a_sequence_ranks_by_the_deadline_of_its_answer(make_engine):
    engine = make_engine(page_tokens=4, num_pages=16)
    early = Submit(id=1, prompt_ids=[1] * 4, sampling=GREEDY, max_tokens=50, arrived_at=1000.0)
    hasty = Submit(id=2, prompt_ids=[2] * 4, sampling=GREEDY, max_tokens=50, arrived_at=1000.5, ttft_at=1001.0)
    answers = run(engine, [early, hasty])
    assert answers[1, 0].timing.num_preempted == 0 and answers[2, 0].timing.num_preempted > 0
