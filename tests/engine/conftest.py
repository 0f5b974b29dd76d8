"""Every engine made in a test closes with its books checked."""

import pytest

from isochrone.engine.engine import Engine
from isochrone.engine.records import EngineLimits
from isochrone.testing.runtime import FakeRuntime, FakeTokens, Faults, SimulatedClock, fake_info

from .driver import books_balance


@pytest.fixture
def make_engine():
    """Engines on fake runtimes and a simulated clock: make_engine(limits={...}, faults=Faults(...), **facts)."""
    engines = []

    def make(*, limits=None, faults=Faults(), **facts):
        clock = SimulatedClock()
        runtime = FakeRuntime(fake_info(**facts), faults, clock)
        tokens = FakeTokens(runtime.info.vocab_size)
        engine = Engine(runtime, EngineLimits(**(limits or {})), clock=clock, load_tokens=lambda: tokens)
        engine.runtime, engine.clock = runtime, clock
        engines.append(engine)
        return engine

    yield make
    for engine in engines:
        books_balance(engine)
        assert not engine.roster.sequences and not engine.roster.requests, "somebody is still in the engine"
        assert engine.stats.num_pages_held == 0
