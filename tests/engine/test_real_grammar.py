"""The real model under schemas and guesses: what it says fits, and is what it says token by token."""

import json

import msgspec
import pytest

import isochrone
from isochrone.engine.local import LocalEngine
from isochrone.engine.records import EngineLimits, Grammar, SamplingParams, Submit

pytestmark = [pytest.mark.model]
pytest.importorskip("llguidance")

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "pets": {"type": "array", "items": {"enum": ["cat", "dog", "none"]}, "maxItems": 3},
    },
    "required": ["name", "age", "pets"],
    "additionalProperties": False,
}
PERSON = Grammar("json_schema", json.dumps(SCHEMA))
LIST = "one two three four five, " * 8


@pytest.fixture(scope="module")
def model():
    with isochrone.load("smollm2-135m", context=1024) as model:
        yield model


def side_by_side(model, submits, **limits):
    """Every request at once; the texts by order."""
    tokenizer = model._tokenizer
    engine = LocalEngine(model._runtime, EngineLimits(**limits), load_tokens=lambda: tokenizer)
    streams = [engine.submit(submit) for submit in submits]
    texts = [[] for _ in streams]
    open_streams = dict(enumerate(streams))
    while open_streams:
        for at, stream in list(open_streams.items()):
            delta = next(stream, None)
            if delta is None:
                del open_streams[at]
            else:
                texts[at] += delta.token_ids
    return texts, engine.stats


def submits(model):
    tokenizer = model._tokenizer
    return [
        Submit(
            prompt_ids=tokenizer.encode(prompt), eos_ids=tokenizer.eos_ids, max_tokens=num_tokens, grammar=grammar,
            sampling=SamplingParams(temperature=temperature, seed=seed, top_p=0.95, frequency_penalty=penalty),
        )
        for seed, (prompt, grammar, num_tokens, temperature, penalty) in enumerate(
            [
                ("A person as JSON:", PERSON, 80, 0.0, 0.0), ("A person as JSON:", PERSON, 80, 1.0, 0.0),
                ("A person as JSON:", PERSON, 80, 1.0, 0.3), (LIST, None, 60, 0.0, 0.0), (LIST, None, 60, 0.7, 0.0),
                (LIST, None, 60, 0.7, 0.2),
            ]
        )
    ]  # fmt: skip


def test_forcing_and_guessing_change_no_text_alone_or_side_by_side(model):
    asked = submits(model)
    plain = [side_by_side(model, [submit], forces=False, drafts=False)[0][0] for submit in asked]
    together, stats = side_by_side(model, asked)
    assert together == plain
    # How many are guessed follows what steps take on this machine; that some are, and rightly, does not.
    assert stats.num_accepted_total > 0 and stats.num_forced_total > 10
    assert [side_by_side(model, [submit])[0][0] for submit in asked] == plain
    for token_ids in plain[:3]:
        person = json.loads(model._tokenizer.decode(token_ids))
        assert list(person) == list(SCHEMA["properties"]) and 0 <= person["age"] <= 120


def test_a_guess_draws_at_any_place_in_a_batch_what_a_step_of_its_own_draws(model):
    asked = submits(model)[3]
    many = [msgspec.structs.replace(asked, sampling=SamplingParams(temperature=1.0, seed=seed)) for seed in range(8)]
    together, _ = side_by_side(model, many)
    for submit, text in zip(many, together, strict=True):
        assert side_by_side(model, [submit], drafts=False)[0][0] == text
