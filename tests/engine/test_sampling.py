"""Counter-based random numbers, and edits of logits kept token by token."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from isochrone.engine.records import SamplingParams, Submit
from isochrone.engine.sampling import FORBIDDEN, Edits, gather_edits, stream_key, uniforms

from .driver import alone, run


def numbers(seed, sample, count):
    return uniforms(np.full(count, stream_key(seed, sample), np.uint64), np.arange(count))


def test_a_number_depends_on_seed_sample_and_position_and_on_nothing_else():
    keys = np.array([stream_key(seed, sample) for seed in (0, 1) for sample in (0, 1)], np.uint64)
    together = uniforms(keys, np.array([5, 5, 9, 9]))
    apart = [uniforms(keys[i : i + 1], np.array([at]))[0] for i, at in enumerate([5, 5, 9, 9])]
    assert together.tolist() == apart and len(set(apart)) == 4
    assert stream_key(-1, 0) == stream_key(2**64 - 1, 0), "OpenAI's seeds may be negative"


def test_numbers_are_spread_evenly_and_independent_of_their_neighbours():
    for seed, sample in [(0, 0), (1, 0), (0, 1), (2**63, 7)]:
        x = numbers(seed, sample, 100_000).astype(np.float64)
        assert 0 <= x.min() and x.max() < 1
        counts = np.histogram(x, 256, (0, 1))[0]
        chi_squared = ((counts - counts.mean()) ** 2 / counts.mean()).sum()
        assert 160 < chi_squared < 370  # 255 degrees of freedom
        assert abs(np.corrcoef(x[:-1], x[1:])[0, 1]) < 0.015
    for other in (numbers(1, 0, 100_000), numbers(0, 1, 100_000)):
        assert abs(np.corrcoef(numbers(0, 0, 100_000), other)[0, 1]) < 0.015


def test_the_numbers_are_these_for_ever():
    # Another version that draws others would continue its predecessor's answers wrongly.
    expected = np.array([0.6257781982421875, 0.3343765139579773, 0.836290180683136], np.float32)
    assert numbers(42, 0, 3).tolist() == expected.tolist()


@given(
    prompt=st.lists(st.integers(0, 200), min_size=1, max_size=120),
    answer=st.lists(st.integers(0, 200), max_size=150),
    factor=st.sampled_from([1.0, 0.9, 1.4]), presence=st.sampled_from([0.0, -0.5, 1.0]),
    frequency=st.sampled_from([0.0, 0.25]), bias=st.dictionaries(st.integers(0, 200), st.floats(-5, 5), max_size=90),
    min_tokens=st.sampled_from([0, 3, 60]),
)  # fmt: skip
def test_edits_kept_up_to_date_equal_edits_counted_from_the_whole_text(
    prompt, answer, factor, presence, frequency, bias, min_tokens
):
    params = SamplingParams(
        repetition_penalty=factor, presence_penalty=presence, frequency_penalty=frequency, logit_bias=bias,
        min_tokens=min_tokens,
    )  # fmt: skip
    edits, ends = Edits(params, prompt, (7, 8)), (7, 8)
    for token in answer:
        edits.push(token)
    assert len(set(edits.tokens.tolist())) == len(edits.tokens)
    kept = {t: (f, d) for t, f, d in zip(edits.tokens.tolist(), edits.factors.tolist(), edits.deltas, strict=True)}
    for token in range(201):
        is_seen = factor != 1.0 and token in {*prompt, *answer}
        delta = bias.get(token, 0.0) - frequency * answer.count(token) - presence * (token in answer)
        delta += FORBIDDEN if token in ends and len(answer) < min_tokens else 0.0
        got_factor, got_delta = kept.get(token, (1.0, 0.0))
        assert got_factor == np.float32(factor if is_seen else 1.0)
        assert abs(got_delta - delta) < 1e-5


def test_rows_without_edits_own_none():
    edits = Edits(SamplingParams(logit_bias={3: 1.0, 4: 2.0}), [], ())
    starts, tokens, factors, deltas = gather_edits([None, edits, None])
    assert starts.tolist() == [0, 0, 2, 2] and tokens.tolist() == [3, 4]
    assert factors.tolist() == [1, 1] and deltas.tolist() == [1, 2] and deltas.dtype == np.float32


def test_an_end_token_ends_and_is_named_but_does_not_join_the_answer():
    free = alone(Submit(id=1, prompt_ids=[9], sampling=SamplingParams(temperature=0), max_tokens=30))[0].token_ids
    end = free[10]
    params = SamplingParams(temperature=0, logprobs=True)
    stopped = alone(Submit(id=1, prompt_ids=[9], sampling=params, max_tokens=30, eos_ids=(end,)))[0]
    first = free.index(end)
    assert stopped.token_ids == free[:first] and len(stopped.logprobs) == first
    assert stopped.finish_reason == "stop" and stopped.stop_token_id == end
    ignoring = SamplingParams(temperature=0, ignore_eos=True)
    assert alone(Submit(id=1, prompt_ids=[9], sampling=ignoring, max_tokens=30, eos_ids=(end,)))[0].token_ids == free
    asking = SamplingParams(temperature=0, ignore_eos=True, stop_token_ids=(end,))
    assert alone(Submit(id=1, prompt_ids=[9], sampling=asking, max_tokens=30))[0].token_ids == free[:first]


def test_no_end_token_is_drawn_before_min_tokens():
    ends = tuple(range(90))
    for min_tokens in (0, 1, 12):
        params = SamplingParams(seed=3, min_tokens=min_tokens)
        answer = alone(Submit(id=1, prompt_ids=[9], sampling=params, max_tokens=60, eos_ids=ends))[0]
        assert min_tokens <= len(answer.token_ids) < min_tokens + 5
        assert not set(answer.token_ids[:min_tokens]) & set(ends)


def test_a_ban_by_logit_bias_holds_and_a_push_wins():
    greedy = alone(Submit(id=1, prompt_ids=[9], sampling=SamplingParams(temperature=0), max_tokens=20))[0].token_ids
    banned = SamplingParams(temperature=0, logit_bias=dict.fromkeys(greedy, -100.0))
    assert not set(alone(Submit(id=1, prompt_ids=[9], sampling=banned, max_tokens=20))[0].token_ids) & set(greedy)
    pushed = SamplingParams(temperature=0, logit_bias={4: 100.0})
    assert alone(Submit(id=1, prompt_ids=[9], sampling=pushed, max_tokens=3))[0].token_ids == [4, 4, 4]


def test_alternatives_come_only_to_those_who_asked_and_as_many_as_they_asked(make_engine):
    submits = [
        Submit(
            id=num_top + 1,
            prompt_ids=[num_top],
            max_tokens=4,
            sampling=SamplingParams(temperature=0, logprobs=num_top > 0, top_logprobs=num_top),
        )  # fmt: skip
        for num_top in (0, 1, 5)
    ]
    answers = run(make_engine(), submits)
    assert answers[1, 0].logprobs == [] and answers[1, 0].top == []
    assert [len(top) for top in answers[2, 0].top] == [1] * 4 and [len(top) for top in answers[6, 0].top] == [5] * 4
    for token, logprob, top in zip(answers[6, 0].token_ids, answers[6, 0].logprobs, answers[6, 0].top, strict=True):
        assert top[0] == (token, logprob)


def test_requests_without_a_seed_differ(make_engine):
    submits = [Submit(id=id, prompt_ids=[1], max_tokens=20) for id in (1, 2)]
    answers = run(make_engine(), submits)
    assert answers[1, 0].token_ids != answers[2, 0].token_ids
