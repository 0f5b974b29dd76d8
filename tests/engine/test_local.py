"""The engine in the caller's thread: generators that drive it, the same records and errors."""

import pytest

from isochrone.engine.local import LocalEngine
from isochrone.engine.records import SamplingParams, Submit
from isochrone.errors import ContextTooLong
from isochrone.testing.runtime import FakeRuntime, fake_info

from .driver import alone

GREEDY = SamplingParams(temperature=0)


def text(deltas):
    return [token for delta in deltas for token in delta.token_ids]


@pytest.fixture
def engine():
    engine = LocalEngine(FakeRuntime(fake_info()))
    yield engine
    assert engine.stats.num_pages_held == 0 and engine.stats.num_running == engine.stats.num_waiting == 0


def test_two_streams_read_in_turn_each_say_their_own(engine):
    submits = [Submit(prompt_ids=[k] * 7, sampling=GREEDY, max_tokens=12) for k in (1, 2)]
    first, second = (engine.submit(submit) for submit in submits)
    texts = [[], []]
    for a, b in zip(first, second, strict=True):
        texts[0] += a.token_ids
        texts[1] += b.token_ids
    assert texts == [alone(submit)[0].token_ids for submit in submits]


def test_a_stream_closed_early_or_never_read_leaves_nothing_behind(engine):
    deltas = engine.submit(Submit(prompt_ids=[1], sampling=GREEDY, max_tokens=100))
    next(deltas)
    deltas.close()
    engine.submit(Submit(prompt_ids=[1], sampling=GREEDY, max_tokens=100)).close()


def test_what_the_engine_refuses_is_raised(engine):
    with pytest.raises(ContextTooLong):
        next(engine.submit(Submit(prompt_ids=[1] * 300)))


def test_one_sample_can_be_stopped_while_the_other_goes_on(engine):
    submit = Submit(prompt_ids=[3], sampling=SamplingParams(seed=1, n=2), max_tokens=30)
    texts = {0: [], 1: []}
    for delta in engine.submit(submit):
        texts[delta.sample] += delta.token_ids
        if len(texts[0]) == 4:
            engine.cancel(delta.id, 0)
    assert texts[1] == alone(submit)[1].token_ids and len(texts[0]) == 4
