"""Drives an engine through a world of arrivals and cancels, and knows what each request should have said."""

from __future__ import annotations

import functools
from collections import Counter, defaultdict
from dataclasses import dataclass, field

import msgspec

from isochrone.engine.engine import Engine
from isochrone.engine.records import Submit
from isochrone.testing.runtime import FakeRuntime, SimulatedClock, fake_info

NUM_STEPS_MAX = 20_000


@dataclass
class Answer:
    """Everything that came for one sample (or, for refusals, for sample -1)."""

    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    top: list = field(default_factory=list)
    prompt_logprobs: list[float] = field(default_factory=list)
    prompt_top: list = field(default_factory=list)
    finish_reason: str | None = None
    stop_token_id: int | None = None
    timing: object = None
    refusal: object = None

    @property
    def said(self):
        """What must not depend on how it was served."""
        return (
            self.token_ids, self.logprobs, self.top, self.prompt_logprobs, self.prompt_top, self.finish_reason,
            self.stop_token_id,
        )  # fmt: skip

    def take(self, delta):
        assert self.finish_reason is None, f"a delta came after the end of {delta.id}/{delta.sample}"
        self.token_ids += delta.token_ids
        self.logprobs += delta.logprobs
        self.top += delta.top
        self.prompt_logprobs += delta.prompt_logprobs
        self.prompt_top += delta.prompt_top
        self.finish_reason, self.stop_token_id, self.timing = delta.finish_reason, delta.stop_token_id, delta.timing


def run(engine: Engine, submits=(), *, arrive=None, cancel=None, until=None) -> dict[tuple[int, int], Answer]:
    """Step until nothing is left (or `until(engine)`), checking the books after every step.

    arrive, cancel  id -> number of the step before which it arrives (default 0) or is cancelled
    """
    arrive, cancel = arrive or {}, cancel or {}
    answers: dict[tuple[int, int], Answer] = defaultdict(Answer)
    pending = sorted(submits, key=lambda s: arrive.get(s.id, 0))
    for number in range(NUM_STEPS_MAX):
        while pending and (arrive.get(pending[0].id, 0) <= number or not engine.has_work):
            submit = pending.pop(0)
            engine.submit(msgspec.structs.replace(submit, arrived_at=submit.arrived_at or engine.clock()))
        for id, at in cancel.items():
            if at == number:
                engine.cancel(id)
        if not engine.has_work and not pending:
            return answers
        output = engine.step(engine.clock())
        for delta in output.deltas:
            answers[delta.id, delta.sample].take(delta)
        for refusal in output.refusals:
            answers[refusal.id, -1].refusal = refusal
        books_balance(engine)
        if until is not None and until(engine):
            return answers
    raise AssertionError(f"not done after {NUM_STEPS_MAX} steps: {engine.stats}")


def books_balance(engine: Engine) -> None:
    """free + cached + held = all, and the pool's counts are those of the page lists."""
    roster, pool = engine.roster, engine.roster.cache.pool
    assert pool.num_free + pool.num_cached + pool.num_held == pool.num_pages
    held = Counter(page for sequence in roster.running for page in sequence.pages)
    assert len(held) == pool.num_held
    assert all(pool._counts[page] == held.get(page, 0) for page in range(pool.num_pages))
    assert not any(sequence.pages for sequence in roster.waiting)
    assert set(roster.sequences.values()) == set(roster.running) | set(roster.waiting)
    slots = [sequence.slot for sequence in roster.running]
    assert sorted(slots + roster.tables._free) == list(range(len(roster.tables._pages)))
    for sequence in roster.running:
        row = roster.tables._pages[sequence.slot]
        assert row[: len(sequence.pages)].tolist() == sequence.pages and (row[len(sequence.pages) :] == -1).all()
        assert sequence.standing.num_tokens == len(sequence.token_ids)
        assert sequence.standing.num_pages == len(sequence.pages)


def alone(submit: Submit, **facts) -> dict[int, Answer]:
    """What each sample says when it has an engine for itself: ample memory, the prompt in one step."""
    facts.setdefault("num_tokens_max", 256)
    return _alone(msgspec.msgpack.encode(msgspec.structs.replace(submit, total_at=None)), tuple(sorted(facts.items())))


@functools.lru_cache(maxsize=4096)
def _alone(packed: bytes, facts: tuple) -> dict[int, Answer]:
    submit = msgspec.msgpack.decode(packed, type=Submit)
    out = {}
    for sample in range(submit.sampling.n):
        clock = SimulatedClock()
        engine = Engine(FakeRuntime(fake_info(**dict(facts, num_rows_max=256)), clock=clock), clock=clock)
        engine.clock = clock
        engine.submit(submit)
        for other in range(submit.sampling.n):
            if other != sample:
                engine.cancel(submit.id, other)
        out[sample] = run(engine)[submit.id, sample]
    return out
