"""A fault ends at its request: the others' output stays equal to the byte."""

import pytest

from isochrone.engine.records import SamplingParams, Submit, error_of
from isochrone.errors import SequenceFailed
from isochrone.testing.runtime import Faults

from .driver import alone, run

BAD = 96
"""The token that the faults below look for; the healthy prompts never hold it, and are biased never to draw it."""
PARAMS = SamplingParams(temperature=0.9, seed=1, logprobs=True, logit_bias={BAD: -100.0})
BIAS = {BAD: -100.0}


def healthy(id):
    return Submit(id=id, prompt_ids=[id] * (8 + 5 * id), sampling=PARAMS, max_tokens=20)


def sick(id, num_good=20):
    return Submit(id=id, prompt_ids=[*[50] * num_good, BAD], sampling=PARAMS, max_tokens=20)


@pytest.mark.parametrize("fault", ["nan_token", "failed_token", "raise_token"])
@pytest.mark.parametrize("num_tokens", [5, 16, 64])
def test_a_failing_sequence_leaves_and_the_others_say_the_same(make_engine, fault, num_tokens):
    engine = make_engine(
        num_tokens_max=num_tokens, limits={"num_running_max": 5}, faults=Faults(**{fault: BAD}), num_rows_max=64
    )
    submits = [healthy(1), healthy(2), sick(3), healthy(4)]
    answers = run(engine, submits, arrive={2: 1, 3: 3, 4: 4})
    error = error_of(answers[3, -1].refusal)
    assert isinstance(error, SequenceFailed) and error.fix
    assert answers[3, 0].token_ids == []
    for id in (1, 2, 4):
        assert answers[id, 0].said == alone(healthy(id))[0].said
    assert engine.stats.num_failed_total == 1


def test_pages_of_a_failed_sequence_are_never_found_again(make_engine):
    engine = make_engine(faults=Faults(nan_token=BAD))
    run(engine, [sick(1, num_good=30)])
    after = Submit(id=2, prompt_ids=[50] * 30, sampling=PARAMS, max_tokens=5)
    answer = run(engine, [after])[2, 0]
    assert answer.timing.num_cached == 0 and answer.said == alone(after)[0].said


def test_a_sample_that_fails_takes_its_request_with_it(make_engine):
    engine = make_engine(faults=Faults(nan_token=BAD))
    params = SamplingParams(seed=1, n=3, temperature=1.5)
    answers = run(engine, [Submit(id=1, prompt_ids=[4], sampling=params, max_tokens=200)])
    assert isinstance(error_of(answers[1, -1].refusal), SequenceFailed)
    assert BAD in {token for sample in range(3) for token in answers[1, sample].token_ids}


def test_when_every_step_raises_each_request_fails_by_itself_and_the_engine_lives(make_engine):
    engine = make_engine(faults=Faults(raise_token=BAD))
    answers = run(engine, [sick(id) for id in range(1, 7)])
    assert all(isinstance(error_of(answers[id, -1].refusal), SequenceFailed) for id in range(1, 7))
    assert "FloatingPointError: token 96" in answers[1, -1].refusal.message
    assert run(engine, [healthy(9)])[9, 0].said == alone(healthy(9))[0].said


def test_a_suspect_that_is_cancelled_meanwhile_holds_nobody_up(make_engine):
    engine = make_engine(faults=Faults(raise_token=BAD))
    run(engine, [sick(1), healthy(2)], until=lambda e: bool(e._suspects))
    engine.cancel(1)
    assert run(engine)[2, 0].said == alone(healthy(2))[0].said


def test_a_cache_that_is_lost_again_and_again_fails_the_sequence(make_engine):
    engine = make_engine(faults=Faults(lose_steps=frozenset(range(100))))
    error = error_of(run(engine, [healthy(1)])[1, -1].refusal)
    assert isinstance(error, SequenceFailed) and "lost 17 times" in error.message
