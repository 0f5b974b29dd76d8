"""Rounds of work: timed until they are enough, and no longer than a figure may take."""

from dataclasses import replace

import pytest

from isochrone.api import bench, rounds
from isochrone.engine.engine import Engine
from isochrone.graph.summary import StageSummary
from isochrone.runtime.step import RuntimeInfo
from isochrone.testing.runtime import FakeRuntime

INFO = RuntimeInfo(
    vocab_size=50, context=256, page_tokens=8, num_pages=128, num_tokens_max=32, num_sequences_max=4, num_rows_max=32,
    plan_hash="test", kv_type="bf16",
)  # fmt: skip


class Counted(rounds.Rounds):
    """Rounds that count the engine's steps."""

    num_steps = 0

    def _step(self):
        self.num_steps += 1
        return super()._step()


@pytest.fixture
def asked():
    engine = Engine(FakeRuntime(INFO))
    yield Counted(engine)
    assert engine.stats.num_pages_held == 0 and not engine.has_work, "the books do not balance"


def test_a_figure_is_the_median_of_its_rounds():
    values = iter([3.0, 1.0, 2.0])
    assert rounds.median_of(lambda: next(values)) == (2.0, rounds.NUM_ROUNDS)


def test_no_round_begins_when_the_time_of_a_figure_is_over(monkeypatch):
    monkeypatch.setattr(rounds, "FIGURE_S", 0.0)
    assert rounds.median_of(lambda: 5.0) == (5.0, 1)


def test_decoding_stops_when_the_time_of_a_figure_is_over(asked, monkeypatch):
    asked.decode_per_s(1, 20)
    whole = asked.num_steps
    monkeypatch.setattr(rounds, "FIGURE_S", 0.0)
    rate, num_rounds = asked.decode_per_s(1, 20)
    assert rate > 0 and num_rounds == 1
    assert asked.num_steps - whole < 5 < rounds.NUM_STEPS < whole


@pytest.mark.parametrize(("batch", "depth"), [(1, 0), (4, 0), (1, 100)])
def test_prompts_and_answers_are_timed(asked, batch, depth):
    assert asked.prefill_s(20) > 0
    rate, num_rounds = asked.decode_per_s(batch, depth)
    assert rate > 0 and 1 <= num_rounds <= rounds.NUM_ROUNDS
    assert asked.num_pages_used > 0


def test_shares_are_one_at_the_limit_and_fall_with_distance():
    rate = bench.Figure("decode", 50.0, "tokens/s", 100.0)
    time = bench.Figure("start", 2.0, "s", 1.0)
    memory = bench.Figure("memory", 200e6, "B", 100e6)
    assert [figure.share_of_limit for figure in (rate, time, memory)] == [0.5, 0.5, 0.5]
    assert replace(rate, limit=None).shown_share == "-"


def test_without_a_probe_times_have_no_limit():
    token = StageSummary("lowered", 1, 1000, 10, 10)
    limits = bench.Limits(None, 1, token, 10.0)
    assert limits.decode_s(1, 0) is None and limits.prefill_s(20) is None
