"""Cold blocks come back from disk when that pays, whole or not at all, and no text ever depends on it."""

import os
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isochrone.engine.engine import Engine
from isochrone.engine.records import EngineLimits, SamplingParams, Submit
from isochrone.engine.spill import Spill
from isochrone.errors import BadConfig
from isochrone.testing.runtime import FakeRuntime, SimulatedClock, fake_info

from .driver import alone, run

GREEDY = SamplingParams(temperature=0)
BLOCK = 256


def block(number):
    return np.full(BLOCK, number % 251, np.uint8)


def key(number):
    return bytes([number])


@pytest.fixture
def spill(tmp_path):
    spill = Spill(tmp_path / "cold", 4 * BLOCK + 7, BLOCK)
    yield spill
    spill.close()


def test_what_was_put_comes_back(spill):
    spill.put(key(1), block(1))
    assert key(1) in spill and (spill.get(key(1)) == block(1)).all()
    assert spill.get(key(2)) is None and spill.num_broken == 0


def test_the_file_never_grows_beyond_its_bound_and_the_longest_unused_goes(spill):
    for number in range(4):
        spill.put(key(number), block(number))
        spill.flush()
    assert (spill.get(key(0)) == 0).all()
    spill.put(key(9), block(9))
    spill.flush()
    assert [number for number in range(10) if key(number) in spill] == [0, 2, 3, 9]
    assert (spill.get(key(9)) == block(9)).all() and os.fstat(spill._file.fileno()).st_size <= 4 * BLOCK


def test_a_block_that_was_changed_or_cut_is_never_given(spill):
    for number in (1, 2):
        spill.put(key(number), block(number))
    spill.flush()
    os.pwrite(spill._file.fileno(), b"\xff", spill._slots[key(1)] * BLOCK + 17)
    os.ftruncate(spill._file.fileno(), spill._slots[key(2)] * BLOCK + 100)
    assert spill.get(key(1)) is None and spill.get(key(2)) is None
    assert spill.num_broken == 2 and key(1) not in spill and len(spill) == 0
    spill.put(key(1), block(1))
    assert (spill.get(key(1)) == block(1)).all(), "its slot serves again"


def test_a_disk_that_is_full_costs_the_block_and_nothing_else(spill, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    spill.put(key(1), block(1))
    spill.flush()
    assert spill.get(key(1)) is None and spill.num_broken == 1
    monkeypatch.undo()
    spill.put(key(1), block(1))
    assert (spill.get(key(1)) == block(1)).all()


def test_the_file_has_no_name_and_its_directory_one_owner(spill, tmp_path):
    assert list((tmp_path / "cold").iterdir()) == []
    assert (tmp_path / "cold").stat().st_mode & 0o077 == 0


def test_a_bound_below_one_block_is_refused(tmp_path):
    with pytest.raises(BadConfig, match="holds no block"):
        Spill(tmp_path, BLOCK - 1, BLOCK)


@pytest.fixture(autouse=True)
def a_disk_whose_speed_decides_nothing(monkeypatch):
    """Blocks are neither skipped because the disk is behind, nor left there because one reading took long."""
    monkeypatch.setattr("isochrone.engine.spill.NUM_PENDING_MAX", 10_000)
    monkeypatch.setattr("isochrone.engine.cache.READ_RATE", 0.0)


def spilling(tmp_path, *, num_pages=24, spill_bytes=1 << 20, page_tokens=8):
    clock = SimulatedClock()
    runtime = FakeRuntime(fake_info(num_pages=num_pages, page_tokens=page_tokens), clock=clock)
    engine = Engine(runtime, EngineLimits(spill_bytes=spill_bytes, spill_dir=str(tmp_path)), clock=clock)
    engine.runtime, engine.clock = runtime, clock
    run(engine, [Submit(id=900 + k, prompt_ids=[90 + k] * (9 * k), sampling=GREEDY, max_tokens=4) for k in range(1, 6)])
    return engine


def prompt(number, length=80):
    return [(number * 7 + at * 3) % 90 for at in range(length)]


def ask(engine, id, number, **more):
    submit = Submit(id=id, prompt_ids=prompt(number), sampling=GREEDY, max_tokens=5, **more)
    answer = run(engine, [submit])[id, 0]
    engine.roster.cache.shelf.spill.flush()
    assert answer.token_ids == alone(submit)[0].token_ids
    return answer.timing


def test_a_prompt_that_was_evicted_is_read_back_and_says_the_same(tmp_path):
    engine = spilling(tmp_path)
    for number in range(4):
        assert ask(engine, number + 1, number).num_cached == 0
    timing = ask(engine, 10, 0)
    assert timing.num_cached == 72 and engine.stats.num_restored_total > 0
    assert engine.stats.num_spilled_total > 0 and engine.stats.num_spill_broken_total == 0
    engine.roster.cache.close()


def test_where_reading_is_slower_than_computing_nothing_is_read(tmp_path):
    engine = spilling(tmp_path)
    for number in range(4):
        ask(engine, number + 1, number)
    engine.roster.cache.shelf.read_s = 1e3
    assert ask(engine, 10, 0).num_cached == 0 and engine.stats.num_restored_total == 0
    engine.roster.cache.close()


def test_broken_blocks_are_computed_again(tmp_path):
    engine = spilling(tmp_path)
    for number in range(4):
        ask(engine, number + 1, number)
    spill = engine.roster.cache.shelf.spill
    os.pwrite(spill._file.fileno(), b"\x55" * 4096, 0)
    os.ftruncate(spill._file.fileno(), 4096)
    for number in range(4):
        ask(engine, number + 20, number)
    assert engine.stats.num_spill_broken_total > 0
    engine.roster.cache.close()


def test_another_tenant_never_reads_what_was_spilled(tmp_path):
    engine = spilling(tmp_path)
    for number in range(4):
        ask(engine, number + 1, number, tenant="a")
    assert ask(engine, 10, 0, tenant="b").num_cached == 0
    assert ask(engine, 11, 0, tenant="a").num_cached > 0
    engine.roster.cache.close()


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(1, 80), st.integers(0, 3)), min_size=1, max_size=25),
    st.sampled_from([64, 300, 4000, 1 << 20]), st.booleans(),
)  # fmt: skip
def test_no_order_size_or_damage_changes_a_text(tmp_path_factory, asked, spill_bytes, is_damaged):
    engine = spilling(tmp_path_factory.mktemp("cold"), spill_bytes=spill_bytes)
    submits, arrive = [], {}
    for id, (number, length, wait) in enumerate(asked, 1):
        submits.append(Submit(id=id, prompt_ids=prompt(number, length), sampling=GREEDY, max_tokens=5))
        arrive[id] = sum(wait for _, _, wait in asked[: id - 1])
    if is_damaged:
        os.ftruncate(engine.roster.cache.shelf.spill._file.fileno(), 33)
    answers = run(engine, submits, arrive=arrive)
    for submit in submits:
        assert answers[submit.id, 0].token_ids == alone(submit)[0].token_ids
    engine.roster.cache.close()


@pytest.mark.model
def test_blocks_of_the_real_model_come_back_bit_for_bit(tmp_path):
    from isochrone.runtime.load import load_runtime
    from isochrone.weights import store

    path = store.find("smollm2-135m")
    if path is None:
        pytest.skip("the model is not here: run `isochrone pull smollm2-135m`")
    runtime = load_runtime(path, context=256, kv_memory_bytes=10 * 737_280, threads=1)
    try:
        limits = EngineLimits(spill_bytes=50_000_000, spill_dir=str(tmp_path), drafts=False)
        engine, said = Engine(runtime, limits, clock=(clock := SimulatedClock())), []
        engine.clock = clock
        for id, number in enumerate((1, 2, 3, 1), 1):
            ids = [1000 + number * 50 + at for at in range(200)]
            engine.time.pace = _known(engine.time.pace)
            said.append(run(engine, [Submit(id=id, prompt_ids=ids, sampling=GREEDY, max_tokens=6)])[id, 0])
            engine.roster.cache.shelf.spill.flush()
        assert said[3].timing.num_cached == 192 and engine.stats.num_restored_total > 0
        assert said[3].token_ids == said[0].token_ids
        engine.roster.cache.close()
    finally:
        runtime.close()


def _known(pace):
    """A pace that knows what the clock, which stands still beside a real runtime, cannot tell it."""
    return replace(pace, weight=100.0)
