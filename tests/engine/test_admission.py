"""What cannot be served is refused with a type, both facts and a way out; what is cancelled gives back at once."""

import msgspec
import pytest

from isochrone.engine.records import SamplingParams, Submit, error_of
from isochrone.errors import BadRequest, ContextTooLong, Overloaded

from .driver import alone, run

GREEDY = SamplingParams(temperature=0)


def refused(engine, submit):
    answers = run(engine, [submit])
    assert list(answers) == [(submit.id, -1)], "a refused request says nothing else"
    return error_of(answers[submit.id, -1].refusal)


@pytest.mark.parametrize(
    ("num_prompt", "max_tokens", "kind", "words"),
    [
        (256, None, ContextTooLong, "256 tokens; with an answer it does not fit the 256 of the context"),
        (200, 57, ContextTooLong, "lower max_tokens to 56, or serve with a larger --context"),
        (257, 0, ContextTooLong, "Shorten the prompt"),
        (0, 5, BadRequest, "no tokens"),
        (3, -1, BadRequest, "max_tokens is -1"),
    ],
)
def test_a_request_that_does_not_fit_is_refused_with_what_would_fit(make_engine, num_prompt, max_tokens, kind, words):
    error = refused(make_engine(), Submit(id=1, prompt_ids=[1] * num_prompt, max_tokens=max_tokens))
    assert type(error) is kind and words in str(error) and error.status == 400


def test_what_fits_exactly_is_served(make_engine):
    engine = make_engine(num_pages=32)
    answer = run(engine, [Submit(id=1, prompt_ids=[1] * 200, sampling=GREEDY)])[1, 0]
    assert len(answer.token_ids) == 56 and answer.finish_reason == "length"
    assert run(engine, [Submit(id=2, prompt_ids=[1] * 256, max_tokens=0)])[2, 0].finish_reason == "length"


def test_a_cache_smaller_than_the_context_is_named_as_the_bound(make_engine):
    error = refused(make_engine(num_pages=4), Submit(id=1, prompt_ids=[1] * 30, max_tokens=5))
    assert "32 of the whole KV cache" in error.message and "--kv-memory" in error.fix


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"prompt_ids": [1, 97]}, "prompt"),
        ({"prompt_ids": [-1]}, "prompt"),
        ({"sampling": SamplingParams(logit_bias={97: 1.0})}, "logit_bias"),
        ({"sampling": SamplingParams(stop_token_ids=(98,))}, "stop_token_ids"),
    ],
)
def test_ids_outside_the_vocabulary_are_refused(make_engine, changes, param):
    error = refused(make_engine(), msgspec.structs.replace(Submit(id=1, prompt_ids=[1]), **changes))
    assert type(error) is BadRequest and error.param == param and "ends at 96" in error.message


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -0.1}, {"temperature": float("nan")}, {"top_p": 1.1}, {"min_p": -1}, {"top_k": -1}, {"n": 0},
        {"repetition_penalty": 0.0}, {"presence_penalty": 1e9}, {"top_logprobs": 21}, {"seed": 2**64},
        {"logit_bias": {3: float("inf")}},
    ],
)  # fmt: skip
def test_parameters_out_of_bounds_never_become_a_record(wrong):
    with pytest.raises(BadRequest) as caught:
        SamplingParams(**wrong)
    assert caught.value.param == next(iter(wrong))


def test_a_full_queue_refuses_the_next_and_says_when_to_come_back(make_engine):
    engine = make_engine(limits={"num_waiting_max": 3, "num_running_max": 1})
    submits = [Submit(id=id, prompt_ids=[id], sampling=GREEDY, max_tokens=4) for id in range(1, 6)]
    answers = run(engine, submits)
    errors = [error_of(answers[id, -1].refusal) for id in (4, 5)]
    assert all(isinstance(error, Overloaded) and 1 <= error.retry_after_s <= 60 for error in errors)
    assert all(answers[id, 0].finish_reason == "length" for id in (1, 2, 3))


def test_a_draining_engine_finishes_what_it_has_and_refuses_the_rest(make_engine):
    engine = make_engine()
    engine.submit(Submit(id=1, prompt_ids=[1], sampling=GREEDY, max_tokens=4))
    engine.drain()
    answers = run(engine, [Submit(id=2, prompt_ids=[1])])
    assert answers[1, 0].finish_reason == "length"
    assert isinstance(error_of(answers[2, -1].refusal), Overloaded) and engine.stats.is_draining


def test_a_cancelled_request_gives_its_slot_and_pages_back_at_once(make_engine):
    engine = make_engine(limits={"num_running_max": 1})
    submits = [Submit(id=id, prompt_ids=[id] * 20, sampling=GREEDY, max_tokens=50) for id in (1, 2)]
    run(engine, submits, until=lambda e: e.stats.num_steps_total == 5)
    engine.cancel(1)
    assert engine.stats.num_pages_held == 0 and engine.stats.num_running == 0
    engine.step(engine.clock())
    assert engine.stats.num_running == 1, "the next one is in the very next step"
    assert run(engine)[2, 0].finish_reason == "length"


def test_cancelling_what_waits_or_is_over_or_never_was_is_harmless(make_engine):
    engine = make_engine(limits={"num_running_max": 1})
    for id in (1, 2):
        engine.submit(Submit(id=id, prompt_ids=[id], sampling=GREEDY, max_tokens=3))
    engine.step(engine.clock())
    for id in (2, 2, 77):
        engine.cancel(id)
    assert set(run(engine)) == {(1, 0)}
    engine.cancel(1)


def test_one_sample_can_be_cancelled_and_the_others_go_on_even_without_their_leader(make_engine):
    engine = make_engine(num_tokens_max=8, limits={"num_running_max": 4})
    submit = Submit(id=1, prompt_ids=list(range(30)), sampling=SamplingParams(seed=5, n=3), max_tokens=6)
    run(engine, [submit], until=lambda e: e.stats.num_steps_total == 1)
    engine.cancel(1, 0)
    answers = run(engine)
    assert set(answers) == {(1, 1), (1, 2)}
    assert all(answers[1, k].token_ids == alone(submit)[k].token_ids for k in (1, 2))
    assert engine.runtime.num_tokens == 30 + 6 + 2 * 5, "the pages of the sample that left served the others"
