"""An answer under a grammar always fits it, and neither forcing nor batches nor failures change it."""

import json
import re
import threading
from concurrent.futures import wait

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isochrone.engine.engine import Engine
from isochrone.engine.grammars import NUM_PENDING_MAX, Grammars
from isochrone.engine.records import EngineLimits, Grammar, Resume, SamplingParams, Submit
from isochrone.errors import Overloaded
from isochrone.testing.runtime import FakeRuntime, FakeTokens, Faults, SimulatedClock, fake_info

from .driver import books_balance, run

pytest.importorskip("llguidance")

VOCAB = 112
TOKENS = FakeTokens(VOCAB)
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 6},
        "kind": {"enum": ["alpha", "alphabet", "beta"]},
        "ok": {"type": "boolean"},
        "note": {"anyOf": [{"type": "null"}, {"type": "integer", "minimum": 0, "maximum": 999}]},
    },
    "required": ["name", "kind", "ok", "note"],
    "additionalProperties": False,
}
PERSON = Grammar("json_schema", json.dumps(SCHEMA))
WORDS = Grammar("regex", "(name|null|alpha|[0-9]{2})( (name|null|alpha|[0-9]{2})){3,9}")
SUM = Grammar("lark", 'start: term ("+" term)*\nterm: NUMBER | "(" start ")"\nNUMBER: /[0-9]{1,3}/')

WIDE = Grammar(
    "lark",
    "start: /[a-z ]{2,4}/ wide\nwide: " + " | ".join(f"r{i}" for i in range(2100))
    + "\n" + "\n".join(f'r{i}: "{i}"' for i in range(2100)),
)  # fmt: skip
GOOD = Submit(id=1, prompt_ids=[7] * 9, sampling=SamplingParams(seed=5), eos_ids=(0,), grammar=PERSON)


def fits(grammar, text):
    if grammar is PERSON:
        value = json.loads(text)
        assert list(value) == list(SCHEMA["properties"]) and value["kind"] in SCHEMA["properties"]["kind"]["enum"]
        assert len(value["name"]) <= 6 and isinstance(value["ok"], bool)
        assert value["note"] is None or 0 <= value["note"] <= 999
        assert json.dumps(value, ensure_ascii=False) == re.sub(r"\\/", "/", text) or "\\" in text
    elif grammar is WORDS:
        assert re.fullmatch(grammar.source, text)
    else:
        assert re.fullmatch(r"[0-9()+]+", text) and isinstance(eval(re.sub(r"\b0+(?=\d)", "", text)), int)


def engine_of(*, limits=None, faults=Faults(), **facts):
    clock = SimulatedClock()
    facts = {"vocab_size": VOCAB, "context": 512, "num_pages": 256, **facts}
    engine = Engine(
        FakeRuntime(fake_info(**facts), faults, clock), EngineLimits(**(limits or {})), clock=clock,
        load_tokens=lambda: TOKENS,
    )  # fmt: skip
    engine.clock, engine.runtime = clock, engine._runtime
    return engine


def alone(submit, **limits):
    """What the request says by itself, drawing token by token."""
    engine = engine_of(limits={"forces": False, "drafts": False, "num_running_max": 1, **limits})
    return run(engine, [submit])


params = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0.0, 0.7, 1.5]),
    repetition_penalty=st.sampled_from([1.0, 1.3]),
    frequency_penalty=st.sampled_from([0.0, 0.4]),
    logit_bias=st.sampled_from([{}, {5: 3.0, 6: -100.0}]),
    logprobs=st.booleans(),
    top_logprobs=st.sampled_from([0, 2]),
    seed=st.integers(0, 2**64 - 1),
    n=st.sampled_from([1, 1, 2]),
    min_tokens=st.sampled_from([0, 4]),
    ignore_eos=st.sampled_from([False, False, True]),
)


@st.composite
def submits(draw):
    return [
        Submit(
            id=id, prompt_ids=[7] * draw(st.integers(1, 20)), sampling=draw(params), eos_ids=(0,),
            max_tokens=draw(st.sampled_from([0, 1, 3, 10, 80, 80, 80])),
            grammar=draw(st.sampled_from([PERSON, PERSON, WORDS, SUM, None])),
        )
        for id in range(1, draw(st.integers(2, 6)))
    ]  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), requests=submits(), page_tokens=st.sampled_from([1, 4, 8]), room=st.sampled_from([110, 900]))
def test_forcing_batches_memory_and_losses_change_no_answer(data, requests, page_tokens, room):
    num_running_max, num_tokens = data.draw(st.sampled_from([(1, 5), (3, 3), (4, 16), (16, 64)]), label="step")
    engine = engine_of(
        limits={"num_running_max": num_running_max, "forces": data.draw(st.booleans(), label="forces")},
        faults=Faults(lose_steps=data.draw(st.frozensets(st.integers(0, 40), max_size=3), label="losses")),
        page_tokens=page_tokens, num_pages=-(-room // page_tokens), num_tokens_max=num_tokens,
        num_rows_max=data.draw(st.sampled_from([16, 64]), label="rows"),
    )  # fmt: skip
    arrive = {submit.id: data.draw(st.integers(0, 20), label=f"arrival of {submit.id}") for submit in requests}
    answers = run(engine, requests, arrive=arrive)
    books_balance(engine)
    assert engine.stats.num_pages_held == 0 and not engine.roster.requests
    for submit in requests:
        for (_, sample), expected in alone(submit).items():
            answer = answers[submit.id, sample]
            assert answer.refusal == expected.refusal
            assert answer.said == expected.said
            if submit.grammar is not None and answer.finish_reason == "stop":
                fits(submit.grammar, TOKENS.decode(answer.token_ids))


def test_forced_tokens_cost_no_step_and_no_row():
    submit = GOOD
    forced, drawn = engine_of(), engine_of(limits={"forces": False})
    answer, expected = run(forced, [submit])[1, 0], run(drawn, [submit])[1, 0]
    assert answer.said == expected.said and answer.finish_reason == "stop"
    assert answer.timing.num_forced >= 10 and expected.timing.num_forced == 0
    assert forced.stats.num_steps_total <= drawn.stats.num_steps_total - answer.timing.num_forced
    assert forced.stats.num_forced_total == answer.timing.num_forced


def test_forced_tokens_have_their_logprobs_where_these_are_asked_for():
    params = SamplingParams(seed=5, logprobs=True, top_logprobs=2)
    submit = Submit(id=1, prompt_ids=[7] * 9, sampling=params, eos_ids=(0,), grammar=PERSON)
    engine, drawn = engine_of(), engine_of(limits={"forces": False})
    answer, expected = run(engine, [submit])[1, 0], run(drawn, [submit])[1, 0]
    assert answer.said == expected.said and len(answer.logprobs) == len(answer.token_ids)
    assert engine.stats.num_steps_total < drawn.stats.num_steps_total, "forced tokens share a step"


def test_an_answer_without_any_choice_runs_no_step():
    grammar = Grammar("json_schema", json.dumps({"const": {"name": True}}))
    engine = engine_of()
    answer = run(engine, [Submit(id=1, prompt_ids=[7] * 9, eos_ids=(0,), grammar=grammar)])[1, 0]
    assert TOKENS.decode(answer.token_ids) == '{"name": true}'
    assert answer.finish_reason == "stop" and engine.stats.num_steps_total == 0


@pytest.mark.parametrize("num_delivered", [0, 1, 2, 5, 11, 30])
@pytest.mark.parametrize("forces", [True, False])
def test_another_engine_goes_on_within_the_grammar(num_delivered, forces):
    submit = Submit(
        id=1, prompt_ids=[7] * 9, sampling=SamplingParams(seed=9, n=2), max_tokens=40, eos_ids=(0,), grammar=PERSON
    )
    expected = alone(submit)
    begun = tuple(Resume(sample, expected[1, sample].token_ids[:num_delivered]) for sample in (0, 1))
    answers = run(engine_of(limits={"forces": forces}), [msgspec.structs.replace(submit, resume=begun)])
    for sample in (0, 1):
        assert begun[sample].token_ids + answers[1, sample].token_ids == expected[1, sample].token_ids
        assert answers[1, sample].finish_reason == expected[1, sample].finish_reason


def test_max_tokens_cuts_forced_tokens_too():
    for num in range(1, 12):
        submit = Submit(id=1, prompt_ids=[7], max_tokens=num, eos_ids=(0,), grammar=PERSON)
        answer = run(engine_of(), [msgspec.structs.replace(submit, sampling=SamplingParams(seed=3))])[1, 0]
        assert len(answer.token_ids) == num and answer.finish_reason == "length"


@pytest.mark.parametrize(
    "grammar, words",
    [
        (Grammar("json_schema", '{"type": "array", "uniqueItems": true}'), "uniqueItems"),
        (Grammar("json_schema", '{"not": {"type": "string"}}'), "not"),
        (Grammar("json_schema", "{"), "no JSON"),
        (Grammar("regex", "(?=a)b"), "look-around"),
        (Grammar("regex", "a" * 5000), "5000 bytes"),
        (Grammar("lark", "start: nothing"), "nothing"),
    ],
)
def test_a_grammar_that_cannot_be_used_is_refused_and_the_others_go_on(grammar, words):
    good = msgspec.structs.replace(GOOD, max_tokens=60)
    bad = msgspec.structs.replace(good, id=2, grammar=grammar)
    answers = run(engine_of(), [good, bad])
    refusal = answers[2, -1].refusal
    assert refusal.code == "invalid_grammar" and words in refusal.message and refusal.fix
    assert answers[1, 0].said == alone(good)[1, 0].said


def test_a_grammar_that_becomes_too_costly_ends_its_own_request_only():
    good = msgspec.structs.replace(GOOD, max_tokens=60)
    bad = msgspec.structs.replace(good, id=2, grammar=WIDE)
    answers = run(engine_of(), [good, bad])
    assert answers[2, -1].refusal.code == "invalid_grammar"
    assert answers[1, 0].said == alone(good)[1, 0].said


def test_an_engine_without_a_vocabulary_refuses_grammars():
    clock = SimulatedClock()
    engine = Engine(FakeRuntime(fake_info(), clock=clock), clock=clock)
    engine.clock = clock
    answers = run(engine, [Submit(id=1, prompt_ids=[7], grammar=PERSON, eos_ids=(0,))])
    assert answers[1, -1].refusal.code == "unsupported"


def test_a_request_may_leave_while_its_grammar_is_compiled(monkeypatch):
    engine = engine_of()
    monkeypatch.setattr(engine._anteroom._grammars, "find", lambda grammar, wait_s: None)
    engine.submit(Submit(id=1, prompt_ids=[7], sampling=SamplingParams(n=2), eos_ids=(0,), grammar=PERSON))
    engine.step(engine.clock())
    assert engine.stats.num_waiting == 1
    engine.cancel(1, 0)
    assert engine.has_work
    engine.cancel(1, 1)
    assert not engine.has_work and engine.stats.num_cancelled_total == 2


def test_a_request_whose_grammar_is_never_ready_ends_at_its_deadline(monkeypatch):
    engine = engine_of()
    monkeypatch.setattr(engine._anteroom._grammars, "find", lambda grammar, wait_s: None)
    engine.submit(Submit(id=1, prompt_ids=[7], eos_ids=(0,), grammar=PERSON, total_at=engine.clock() + 1))
    assert engine.step(engine.clock()).refusals == []
    engine.clock.advance(1.5)
    assert [refusal.code for refusal in engine.step(engine.clock()).refusals] == ["deadline_exceeded"]


def test_callers_who_leave_before_their_grammars_are_compiled_leave_room_for_others():
    """As many as may be compiled at once, and nobody comes back for one of them."""
    open_gate = threading.Event()
    grammars = Grammars(lambda: open_gate.wait(10) and TOKENS, VOCAB)
    for number in range(NUM_PENDING_MAX):
        assert grammars.find(Grammar("regex", f"a{{{number + 1}}}"), 0.0) is None
    open_gate.set()
    wait(grammars._pending.values())
    matcher = grammars.find(Grammar("regex", "b"), 10.0)
    assert matcher is not None and not grammars._pending


def test_more_grammars_than_are_compiled_at_once_are_told_when_to_come_again():
    open_gate = threading.Event()
    grammars = Grammars(lambda: open_gate.wait(10) and TOKENS, VOCAB)
    for number in range(NUM_PENDING_MAX):
        assert grammars.find(Grammar("regex", f"a{{{number + 1}}}"), 0.0) is None
    with pytest.raises(Overloaded, match="are being compiled already"):
        grammars.find(Grammar("regex", "b"), 0.0)
    open_gate.set()


LONG = Grammar(
    "json_schema",
    json.dumps(
        {
            "type": "object",
            "properties": {"notes": {"type": "array", "items": {"type": "string"}}, "size": {"type": "integer"}},
            "required": ["notes", "size"],
        }
    ),
)


@pytest.mark.parametrize("seed", range(12))
def test_an_answer_under_a_schema_is_brought_to_its_end_before_its_limit(seed):
    """The letters of the scripted model are drawn at random, and would hardly ever close a string."""
    sampling = SamplingParams(temperature=1.5, seed=seed)
    submit = Submit(id=1, prompt_ids=[7], sampling=sampling, eos_ids=(0,), max_tokens=90, grammar=LONG)
    answer = run(engine_of(), [submit])[1, 0]
    assert answer.finish_reason == "stop"
    assert set(json.loads(TOKENS.decode(answer.token_ids))) >= {"notes", "size"}
