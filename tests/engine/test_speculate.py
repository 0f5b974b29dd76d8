"""Guessing tokens ahead changes no text, takes fewer steps where texts repeat, and hardly costs where they do not."""

import random
from array import array

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isochrone.engine.engine import Engine
from isochrone.engine.records import EngineLimits, SamplingParams, Submit
from isochrone.engine.speculate import Draft, Followed, SuffixDrafter, TokenHistory
from isochrone.engine.speculate.acceptance import Acceptance, SharedAcceptance
from isochrone.engine.speculate.choice import MARGIN, choose_lengths
from isochrone.engine.speculate.cost import VerifyCost
from isochrone.engine.speculate.suffix import HISTORY_TOKENS, Histories
from isochrone.testing.runtime import FakeRuntime, FakeTokens, Faults, SimulatedClock, fake_info

from . import test_grammar, test_same_text
from .driver import alone, books_balance, run

TOKENS = FakeTokens(test_grammar.VOCAB)


class KnowsTheAnswer:
    """Guesses what the sequence says alone, each token right with a chance of `share`."""

    def __init__(self, texts, share, seed):
        self.texts, self.share, self.random = texts, share, random.Random(seed)

    def draft(self, token_ids, num_max):
        for text in self.texts:
            if text[: len(token_ids)] == token_ids.tolist() and len(text) > len(token_ids):
                rest = text[len(token_ids) :][:num_max]
                guess = [t if self.random.random() < self.share else self.random.randrange(97) for t in rest]
                return Draft(array("i", guess), 2)
        return Draft(array("i", [self.random.randrange(97) for _ in range(num_max)]), 2)


def guess_well(engine, expected, share, seed):
    """Let the engine guess what the answers will be, always, at its limits."""
    texts = [submit.prompt_ids + answer.token_ids for submit, answers in expected for answer in answers.values()]
    speculator = engine._guesser._speculator
    speculator._must_measure = lambda: False
    speculator.cost.ratio = lambda num_tokens: 1.0
    speculator.follow = lambda tenant: Followed(KnowsTheAnswer(texts, share, seed), Acceptance(SharedAcceptance()))


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    data=st.data(), requests=test_same_text.submits(), page_tokens=st.sampled_from([1, 4, 8]),
    room=st.sampled_from([64, 90, 400]), share=st.sampled_from([0.0, 0.5, 0.9, 1.0]),
)  # fmt: skip
def test_no_guess_changes_what_a_request_says(data, requests, page_tokens, room, share):
    arrive = {submit.id: data.draw(st.integers(0, 30), label=f"arrival of {submit.id}") for submit in requests}
    num_running_max, num_tokens = data.draw(st.sampled_from([(1, 5), (3, 3), (4, 16), (16, 64)]), label="step")
    facts = {"page_tokens": page_tokens, "num_pages": -(-room // page_tokens), "num_tokens_max": num_tokens}
    faults = Faults(lose_steps=data.draw(st.frozensets(st.integers(0, 40), max_size=3), label="losses"))
    clock = SimulatedClock()
    runtime = FakeRuntime(fake_info(**facts, num_rows_max=data.draw(st.sampled_from([16, 64]))), faults, clock)
    engine = Engine(runtime, EngineLimits(num_running_max=num_running_max, policy="edf"), clock=clock)
    engine.clock = clock
    expected = [(submit, alone(submit)) for submit in requests]
    guess_well(engine, expected, share, data.draw(st.integers(0, 9)))
    answers = run(engine, requests, arrive=arrive)
    books_balance(engine)
    assert engine.stats.num_pages_held == 0 and not engine.roster.requests
    for submit, said in expected:
        for sample, answer in said.items():
            ours = answers[submit.id, sample]
            assert (ours.token_ids, ours.finish_reason) == (answer.token_ids, answer.finish_reason)
            assert (ours.logprobs, ours.top, ours.stop_token_id) == (answer.logprobs, answer.top, answer.stop_token_id)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), requests=test_grammar.submits(), share=st.sampled_from([0.5, 0.9, 1.0]))
def test_no_guess_leads_out_of_a_grammar(data, requests, share):
    engine = test_grammar.engine_of(
        limits={"num_running_max": data.draw(st.sampled_from([1, 4, 16])), "forces": data.draw(st.booleans())},
        page_tokens=data.draw(st.sampled_from([1, 4, 8])), num_tokens_max=data.draw(st.sampled_from([16, 64])),
    )  # fmt: skip
    expected = [
        (submit, {sample: answer for (_, sample), answer in test_grammar.alone(submit).items()}) for submit in requests
    ]
    guess_well(engine, expected, share, data.draw(st.integers(0, 9)))
    answers = run(engine, requests)
    for submit, said in expected:
        for sample, answer in said.items():
            assert answers[submit.id, sample].said == answer.said


def engine_that_repeats(**limits):
    clock = SimulatedClock()
    facts = fake_info(context=512, num_pages=256)
    engine = Engine(FakeRuntime(facts, clock=clock, memory=1), EngineLimits(**limits), clock=clock)
    engine.clock = clock
    return engine


def test_a_text_that_repeats_itself_takes_far_fewer_steps():
    submit = Submit(id=1, prompt_ids=[3, 4, 5], sampling=SamplingParams(temperature=0), max_tokens=400)
    plain, guessed = engine_that_repeats(drafts=False), engine_that_repeats()
    expected, answer = run(plain, [submit])[1, 0], run(guessed, [submit])[1, 0]
    assert answer.said == expected.said
    assert guessed.stats.num_steps_total < plain.stats.num_steps_total / 2
    assert guessed.stats.num_accepted_total == answer.timing.num_accepted > 200
    assert plain.stats.num_drafted_total == expected.timing.num_drafted == 0


def test_a_request_may_say_that_nothing_be_guessed():
    submit = Submit(id=1, prompt_ids=[3, 4, 5], sampling=SamplingParams(temperature=0), max_tokens=100, drafts=False)
    engine = engine_that_repeats()
    run(engine, [submit])
    assert engine.stats.num_drafted_total == 0 and engine.stats.num_steps_total == 100


def test_what_a_tenant_was_answered_is_guessed_for_it_and_for_no_other():
    params = SamplingParams(seed=7)
    first = Submit(id=1, prompt_ids=list(range(9)), sampling=params, max_tokens=120, tenant="a")

    def drafted(tenant):
        engine = test_grammar.engine_of(vocab_size=97)
        expected = run(engine, [first])[1, 0]
        again = run(engine, [msgspec.structs.replace(first, id=2, tenant=tenant)])[2, 0]
        assert again.said == expected.said
        return again.timing.num_accepted

    assert drafted("a") > 60 and drafted("b") == 0


@pytest.mark.parametrize("fault", ["nan_token", "failed_token", "raise_token"])
def test_a_guess_that_cannot_be_computed_harms_nobody(fault):
    submits = [
        Submit(id=id, prompt_ids=[id] * 9, sampling=SamplingParams(seed=id, logit_bias={96: -100.0}), max_tokens=30)
        for id in (1, 2, 3)
    ]
    clock = SimulatedClock()
    engine = Engine(FakeRuntime(fake_info(), Faults(**{fault: 96}), clock), clock=clock)
    engine.clock = clock
    speculator = engine._guesser._speculator

    class Poisons:
        def draft(self, token_ids, num_max):
            return Draft(array("i", [96, 96]), 30)

    speculator.cost.ratio = lambda num_tokens: 1.0
    speculator.follow = lambda tenant: Followed(Poisons(), Acceptance(SharedAcceptance()))
    answers = run(engine, submits)
    assert engine.stats.num_drafted_total > 0 or fault != "nan_token"  # else the step is thrown away
    for submit in submits:
        assert answers[submit.id, 0].said == alone(submit)[0].said


# The parts.


def test_a_drafter_finds_the_longest_end_that_came_before():
    drafter = SuffixDrafter(TokenHistory())
    text = array("i", [1, 2, 3, 40, 41, 9, 2, 3, 50, 51, 1, 2, 3])
    draft = drafter.draft(text, 2)
    assert draft.token_ids.tolist() == [40, 41] and draft.evidence == 3


@given(st.lists(st.integers(0, 3), min_size=1, max_size=80), st.integers(1, 16))
def test_a_draft_is_what_followed_an_end_as_long_as_it_says(tokens, num_max):
    drafter = SuffixDrafter(TokenHistory())
    for num in range(1, len(tokens) + 1):
        text = tokens[:num]
        draft = drafter.draft(array("i", text), num_max)
        ends = [text[at - 1 : at + 1] for at in range(1, num - 1)]
        assert (draft is not None) == (text[-2:] in ends and num > 2)
        if draft is not None:
            end = text[-draft.evidence :]
            after = [text[at:] for at in range(draft.evidence, num) if text[at - draft.evidence : at] == end]
            assert len(draft.token_ids) == num_max
            assert any(draft.token_ids.tolist()[: len(rest)] == rest[:num_max] for rest in after)


def test_a_history_is_bounded_and_one_tenants_own():
    histories = Histories()
    for start in range(40):
        histories.of("a").add(array("i", range(start * 1000, start * 1000 + 1000)))
    sizes = [len(tokens) for tokens, _ in histories.of("a")._generations]
    assert sum(sizes) <= 2 * HISTORY_TOKENS
    assert histories.of("a").find(array("i", [39_500, 39_501]), 3).token_ids.tolist() == [39_502, 39_503, 39_504]
    assert histories.of("a").find(array("i", [500, 501]), 3) is None
    assert histories.of("b").find(array("i", [39_500, 39_501]), 3) is None


@given(
    st.lists(st.lists(st.floats(0.01, 1.0), max_size=16), min_size=1, max_size=6), st.floats(0.0, 0.5),
    st.integers(0, 40),
)  # fmt: skip
def test_the_choice_is_the_best_of_all_and_worth_its_margin(shares, slope, num_max):
    gains = []
    for row in shares:
        gain, out = 1.0, []
        for share in row:
            gain *= share
            out.append(gain)
        gains.append(out)

    def rate(lengths):
        return (len(gains) + sum(sum(row[:n]) for row, n in zip(gains, lengths, strict=True))) / (
            1 + slope * (len(gains) + sum(lengths) - 1)
        )

    lengths = choose_lengths(gains, len(gains), lambda num: 1 + slope * (num - 1), num_max)
    plain = [0] * len(gains)
    assert sum(lengths) <= num_max and all(n <= len(row) for n, row in zip(lengths, gains, strict=True))
    assert lengths == plain or rate(lengths) > MARGIN * rate(plain)
    for at in range(len(gains)):  # one more or one less anywhere is no better
        for other in (lengths[at] - 1, lengths[at] + 1):
            if 0 <= other <= len(gains[at]) and sum(lengths) - lengths[at] + other <= num_max:
                changed = [*lengths[:at], other, *lengths[at + 1 :]]
                assert rate(changed) <= max(rate(lengths), MARGIN * rate(plain)) * 1.0001


def test_costs_are_learned_while_contexts_grow_and_the_machine_is_noisy():
    noise, cost = random.Random(1), VerifyCost()
    for step in range(3000):
        num = noise.choice([1, 1, 2, 4, 8])
        base_s = (0.004 + step * 1e-6) * noise.uniform(0.95, 1.1) * (5 if noise.random() < 0.01 else 1)
        cost.learn(num, base_s * (1 + 0.07 * (num - 1)))
    for num in (2, 4, 8):
        assert abs(cost.ratio(num) / (1 + 0.07 * (num - 1)) - 1) < 0.06
    assert abs(cost.ratio(12) - (1 + 0.07 * 11)) < 0.2, "a count never seen lies on the line of the others"


def test_a_sequence_learns_its_own_acceptance_within_a_few_tokens():
    shared = SharedAcceptance()
    prose = Acceptance(shared)
    before = prose.share(3)
    for _ in range(30):
        prose.learn(3, False)
    assert prose.share(3) < before / 3 and len(prose.gains(3, 9)) < len(Acceptance(shared).gains(3, 9))
    assert before / 2 < Acceptance(shared).share(3) < before
