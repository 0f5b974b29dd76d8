"""However a request is served, it says the same: batches, chunks, prefixes, memory, losses, another engine."""

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isochrone.engine.engine import Engine
from isochrone.engine.records import EngineLimits, Resume, SamplingParams, Submit
from isochrone.engine.sampling import stream_key, uniforms
from isochrone.runtime.step import SamplingRows, StepBatch
from isochrone.testing.runtime import FakeRuntime, Faults, SimulatedClock, fake_info

from .driver import alone, books_balance, run

STEMS = ([3] * 20, list(range(20)), list(range(10)) + [50] * 15)

sampling = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0.0, 0.0, 0.7, 1.5]),
    top_k=st.sampled_from([0, 5]),
    top_p=st.sampled_from([1.0, 0.8]),
    min_p=st.sampled_from([0.0, 0.05]),
    repetition_penalty=st.sampled_from([1.0, 1.3]),
    presence_penalty=st.sampled_from([0.0, 0.5]),
    frequency_penalty=st.sampled_from([0.0, 0.4]),
    logit_bias=st.sampled_from([{}, {5: 3.0, 6: -100.0}]),
    logprobs=st.booleans(),
    top_logprobs=st.sampled_from([0, 3]),
    seed=st.integers(0, 2**64 - 1),
    n=st.sampled_from([1, 1, 1, 2, 3]),
    min_tokens=st.sampled_from([0, 4]),
    stop_token_ids=st.sampled_from([(), (11, 12, 13, 14, 15, 16)]),
)


@st.composite
def submits(draw):
    """Requests with prompts that share beginnings; at most 60 tokens with their answer."""
    out = []
    for id in range(1, draw(st.integers(1, 7)) + 1):
        stem = draw(st.sampled_from(STEMS))[: draw(st.integers(1, 25))]
        tail = draw(st.lists(st.integers(0, 96), max_size=10))
        out.append(
            Submit(
                id=id,
                prompt_ids=stem + tail,
                sampling=draw(sampling),
                max_tokens=draw(st.integers(0, 25)),
                eos_ids=(0,),
                tenant=draw(st.sampled_from(["a", "a", "b"])),
                echo_logprobs=draw(st.booleans()),
                ttft_at=draw(st.sampled_from([None, None, 1000.1, 1003.0])),
            )  # fmt: skip
        )
    return out


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), requests=submits(), page_tokens=st.sampled_from([1, 4, 8]), room=st.sampled_from([64, 90, 400]))
def test_no_arrival_order_memory_size_chunk_or_loss_changes_what_a_request_says(data, requests, page_tokens, room):
    ids = [submit.id for submit in requests]
    arrive = {id: data.draw(st.integers(0, 30), label=f"arrival of {id}") for id in ids}
    delays = {id: data.draw(st.sampled_from([None, None, None, 0, 3, 12]), label=f"cancel of {id}") for id in ids}
    cancel = {id: arrive[id] + 1 + delay for id, delay in delays.items() if delay is not None}
    num_running_max, num_tokens = data.draw(st.sampled_from([(1, 5), (3, 3), (4, 16), (16, 64)]), label="step")
    facts = {"page_tokens": page_tokens, "num_pages": -(-room // page_tokens), "num_tokens_max": num_tokens}
    faults = Faults(lose_steps=data.draw(st.frozensets(st.integers(0, 40), max_size=3), label="losses"))
    clock = SimulatedClock()
    engine = Engine(
        FakeRuntime(fake_info(**facts, num_rows_max=data.draw(st.sampled_from([16, 64]))), faults, clock, token_s=0.02),
        EngineLimits(num_running_max=num_running_max), clock=clock,
    )  # fmt: skip
    engine.clock = clock
    answers = run(engine, requests, arrive=arrive, cancel=cancel)
    books_balance(engine)
    assert engine.stats.num_pages_held == 0 and not engine.roster.requests
    for submit in requests:
        if (refusal := answers[submit.id, -1].refusal) is not None:
            assert refusal.code == "budget_unreachable" and submit.ttft_at is not None
            assert not answers[submit.id, 0].token_ids, "who is refused has said nothing"
            continue
        for sample, expected in alone(submit).items():
            answer = answers[submit.id, sample]
            if submit.id in cancel and answer.finish_reason is None:
                assert answer.token_ids == expected.token_ids[: len(answer.token_ids)]
                continue
            assert (answer.token_ids, answer.finish_reason) == (expected.token_ids, expected.finish_reason)
            assert answer.logprobs == expected.logprobs and answer.top == expected.top
            assert answer.stop_token_id == expected.stop_token_id
        scores = [alone(submit)[0].prompt_logprobs, alone(submit)[0].prompt_top]
        if submit.id not in cancel:
            assert [answers[submit.id, 0].prompt_logprobs, answers[submit.id, 0].prompt_top] == scores


def test_the_text_is_that_of_the_runtime_asked_by_hand_token_by_token():
    prompt, seed = list(range(40, 61)), 7
    runtime, ids = FakeRuntime(fake_info(num_tokens_max=1)), list(prompt)
    for position in range(len(prompt) + 29):
        uniform = uniforms(np.array([stream_key(seed, 0)], np.uint64), np.array([position + 1]))
        zero, one = np.zeros(1, np.float32), np.ones(1, np.float32)
        rows = SamplingRows(
            one, np.zeros(1, np.int32), one, zero, uniform, np.full(1, -1, np.int32), np.zeros(2, np.int32),
            np.zeros(0, np.int32), zero[:0], zero[:0],
        )  # fmt: skip
        pages = np.arange(32, dtype=np.int32)[None]
        token, at, starts = np.array(ids[position : position + 1], np.int32), np.array([position]), np.array([0, 1])
        result = runtime.step(StepBatch(token, at.astype(np.int32), starts, pages, np.zeros(1, np.int32), rows))
        if position >= len(prompt) - 1:
            ids.append(int(result.tokens[0]))
    submit = Submit(id=1, prompt_ids=prompt, sampling=SamplingParams(seed=seed), max_tokens=30)
    assert alone(submit)[0].token_ids == ids[len(prompt) :]


def test_a_prompt_seen_before_is_computed_from_its_last_partial_page_only(make_engine):
    engine = make_engine(page_tokens=8)
    submit = Submit(id=1, prompt_ids=list(range(44)), sampling=SamplingParams(temperature=0), max_tokens=3)
    first = run(engine, [submit])
    num_tokens = engine.runtime.num_tokens
    second = run(engine, [msgspec.structs.replace(submit, id=2)])
    assert second[2, 0].token_ids == first[1, 0].token_ids
    assert second[2, 0].timing.num_cached == 40
    assert engine.runtime.num_tokens - num_tokens == 4 + 2


def test_a_prompt_of_whole_pages_still_computes_its_last_token(make_engine):
    engine = make_engine(page_tokens=8)
    submit = Submit(id=1, prompt_ids=list(range(16)), sampling=SamplingParams(temperature=0), max_tokens=9)
    first = run(engine, [submit])
    second = run(engine, [msgspec.structs.replace(submit, id=2)])
    assert second[2, 0].timing.num_cached == 8
    assert second[2, 0].token_ids == first[1, 0].token_ids


def test_an_answer_is_a_prefix_for_the_next_turn(make_engine):
    engine = make_engine(page_tokens=4)
    submit = Submit(id=1, prompt_ids=list(range(10)), sampling=SamplingParams(temperature=0), max_tokens=14)
    answer = run(engine, [submit])[1, 0].token_ids
    turn = Submit(id=2, prompt_ids=[*range(10), *answer, 1, 2], sampling=SamplingParams(temperature=0), max_tokens=5)
    reply = run(engine, [turn])[2, 0]
    assert reply.timing.num_cached == 20  # the last token drawn was never computed
    assert reply.token_ids == alone(turn)[0].token_ids


def test_tenants_never_share_a_prefix(make_engine):
    engine = make_engine()
    submit = Submit(id=1, prompt_ids=list(range(40)), sampling=SamplingParams(temperature=0), max_tokens=2, tenant="a")
    run(engine, [submit])
    other = run(engine, [msgspec.structs.replace(submit, id=2, tenant="b")])
    same = run(engine, [msgspec.structs.replace(submit, id=3, tenant="a")])
    assert other[2, 0].timing.num_cached == 0 and same[3, 0].timing.num_cached == 32


def test_samples_of_one_request_compute_the_prompt_once(make_engine):
    engine = make_engine(page_tokens=8)
    submit = Submit(id=1, prompt_ids=list(range(60)), sampling=SamplingParams(seed=3, n=4), max_tokens=10)
    answers = run(engine, [submit])
    assert engine.runtime.num_tokens == 60 + 3 * 4 + 4 * 9
    texts = [answers[1, sample].token_ids for sample in range(4)]
    assert len({tuple(text) for text in texts}) == 4
    assert texts == [alone(submit)[sample].token_ids for sample in range(4)]


def test_sequences_that_compute_one_prompt_side_by_side_end_with_one_copy(make_engine):
    engine = make_engine(page_tokens=8, num_tokens_max=64, num_pages=64)
    submits = [
        Submit(id=id, prompt_ids=list(range(32)), sampling=SamplingParams(temperature=0), max_tokens=12)
        for id in (1, 2)
    ]
    answers = run(engine, submits, until=lambda e: e.stats.num_steps_total == 1)
    assert engine.stats.num_pages_held == 4
    answers = run(engine)
    assert answers[1, 0].token_ids == answers[2, 0].token_ids == alone(submits[0])[0].token_ids[1:]


def test_preemption_changes_no_text(make_engine):
    engine = make_engine(page_tokens=4, num_pages=20)
    submits = [
        Submit(id=id, prompt_ids=[id] * 8, sampling=SamplingParams(seed=id, temperature=1.0), max_tokens=60)
        for id in range(1, 6)
    ]
    answers = run(engine, submits)
    assert engine.stats.num_preempted_total > 0
    for submit in submits:
        assert answers[submit.id, 0].said == alone(submit)[0].said
    assert answers[1, 0].timing.num_preempted == 0, "the earliest is never preempted"


def test_a_lost_cache_is_replayed(make_engine):
    engine = make_engine(faults=Faults(lose_steps=frozenset({2, 3, 9})))
    submits = [
        Submit(id=id, prompt_ids=list(range(30 + id)), sampling=SamplingParams(seed=id), max_tokens=20)
        for id in range(1, 5)
    ]
    answers = run(engine, submits)
    assert engine.stats.num_replayed_total >= 4
    for submit in submits:
        assert answers[submit.id, 0].said == alone(submit)[0].said


@pytest.mark.parametrize("num_delivered", [0, 1, 7, 19, 20])
def test_another_engine_goes_on_exactly_where_one_stopped(make_engine, num_delivered):
    params = SamplingParams(seed=9, frequency_penalty=0.7, repetition_penalty=1.2, min_tokens=9, n=2)
    submit = Submit(id=1, prompt_ids=list(range(20)), sampling=params, max_tokens=20, eos_ids=(1, 2, 3, 4))
    expected = alone(submit)
    begun = tuple(Resume(sample, expected[sample].token_ids[:num_delivered]) for sample in (0, 1))
    answers = run(make_engine(), [msgspec.structs.replace(submit, resume=begun)])
    for sample in (0, 1):
        assert begun[sample].token_ids + answers[1, sample].token_ids == expected[sample].token_ids
        assert answers[1, sample].finish_reason == expected[sample].finish_reason


@pytest.mark.parametrize("num_tokens", [1, 3, 7, 64])
def test_a_scored_prompt_has_the_same_scores_in_any_chunks_cached_or_not(make_engine, num_tokens):
    engine = make_engine(num_tokens_max=num_tokens, limits={"num_running_max": 1})
    params = SamplingParams(temperature=0, logprobs=True, top_logprobs=4)
    submit = Submit(id=1, prompt_ids=list(range(30)), sampling=params, max_tokens=0, echo_logprobs=True)
    first, second = run(engine, [submit])[1, 0], run(engine, [msgspec.structs.replace(submit, id=2)])[2, 0]
    assert first.said == second.said == alone(submit)[0].said
    assert len(first.prompt_logprobs) == len(first.prompt_top) == 29
    assert first.finish_reason == "length" and first.token_ids == []


def test_a_score_is_the_logprob_that_the_same_token_has_when_drawn():
    params = SamplingParams(temperature=0, logprobs=True)
    answer = alone(Submit(id=1, prompt_ids=[4, 5], sampling=params, max_tokens=12))[0]
    again = Submit(id=1, prompt_ids=[4, 5, *answer.token_ids], sampling=params, max_tokens=0, echo_logprobs=True)
    assert alone(again)[0].prompt_logprobs[1:] == answer.logprobs


def test_max_tokens_0_reads_the_prompt_into_the_cache_and_draws_nothing(make_engine):
    engine = make_engine()
    answer = run(engine, [Submit(id=1, prompt_ids=list(range(33)), max_tokens=0)])[1, 0]
    assert answer.token_ids == [] and answer.finish_reason == "length"
    assert engine.stats.num_pages_cached == 4


def test_after_a_loss_nothing_cached_before_is_trusted(make_engine):
    engine = make_engine(faults=Faults(lose_steps=frozenset({4})))
    submit = Submit(id=1, prompt_ids=list(range(30)), sampling=SamplingParams(temperature=0), max_tokens=3)
    run(engine, [submit])
    run(engine, [Submit(id=2, prompt_ids=[9] * 20, sampling=SamplingParams(temperature=0), max_tokens=6)])
    answer = run(engine, [msgspec.structs.replace(submit, id=3)])[3, 0]
    assert answer.timing.num_cached == 0 and engine.stats.num_replayed_total == 1
    assert answer.said == alone(submit)[0].said
