"""Offered load beyond capacity, with a budget for the first token; and a long prompt beside running streams.

    python -m benchmarks.overload [--seconds 40] [--json FILE] [--quick]

The engine runs the real model in this process; arrivals are Poisson, prompts of 64 to 512 tokens never seen before,
answers of 16 to 64.  Capacity is the rate at which the engine finishes such requests when all are there at once.
The same arrivals meet three policies over the same bounded queue: ours, earliest deadline first, first come first
served.  Goodput: requests a second whose first token came within their budget.
"""

from __future__ import annotations

import json
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
from msgspec.structs import replace

from isochrone.engine.engine import Engine
from isochrone.engine.records import EngineLimits, Policy, SamplingParams, Submit
from isochrone.runtime.cpu import CpuRuntime
from isochrone.runtime.load import load_runtime

from .vs_peers import model_file, say

CONTEXT, NUM_WAITING_MAX = 4096, 64
PROMPT_TOKENS, ANSWER_TOKENS = (64, 512), (16, 64)
FACTORS = (0.5, 1.0, 2.0, 4.0)
POLICIES: tuple[Policy, ...] = ("budget", "edf", "fcfs")
TTFT_TIMES = 4.0
"""Budget of a request: so many times what the mean prompt takes alone, plus one and a half times its own."""
NUM_STREAMS, LONG_TOKENS = 4, 2000


@dataclass(frozen=True, slots=True)
class Arrival:
    """at_s from the start of the run;  ttft_s its budget"""

    at_s: float
    prompt_ids: list[int]
    num_answer: int
    ttft_s: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the arrivals of one run."""

    policy: str
    factor: float
    num_offered: int
    num_taken: int
    num_refused: int
    num_in_time: int
    goodput_per_s: float
    tokens_per_s: float
    ttft_s_p50: float
    ttft_s_p95: float
    error_p50: float
    error_p90: float
    refusal_s_p99: float

    @property
    def share_in_time(self) -> float:
        """Of those that were taken."""
        return self.num_in_time / self.num_taken if self.num_taken else 1.0


@dataclass(frozen=True, slots=True)
class Beside:
    """A long prompt beside streams."""

    itl_s_p99_before: float
    itl_s_p99_beside: float
    itl_s_p50_before: float
    itl_s_p50_beside: float
    ttft_s_alone: float
    ttft_s_beside: float

    @property
    def itl_times(self) -> float:
        return self.itl_s_p99_beside / self.itl_s_p99_before

    @property
    def ttft_times(self) -> float:
        return self.ttft_s_beside / self.ttft_s_alone


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which this share lies; 0 where there are none."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else 0.0


class Bench:
    """One runtime, a fresh engine for each run."""

    def __init__(self, runtime: CpuRuntime, seed: int) -> None:
        self._runtime, self._source = runtime, random.Random(seed)
        self._num_requests = 0

    def engine(self, policy: Policy) -> Engine:
        """An engine that has seen a few requests, so that it knows its pace."""
        engine = Engine(self._runtime, EngineLimits(policy=policy, num_waiting_max=NUM_WAITING_MAX))
        for num_tokens in (64, 256, 512, 128):
            for _ in range(2):
                engine.submit(self.submit(self.ids(num_tokens), 24))
            self.drain(engine)
        return engine

    def ids(self, num_tokens: int) -> list[int]:
        return [self._source.randrange(100, 40_000) for _ in range(num_tokens)]

    def submit(self, prompt_ids: list[int], num_answer: int, *, ttft_s: float | None = None, at: float = 0.0) -> Submit:
        self._num_requests += 1
        at = at or time.monotonic()
        return Submit(
            id=self._num_requests, prompt_ids=prompt_ids, max_tokens=num_answer, arrived_at=at,
            sampling=SamplingParams(temperature=0.0, ignore_eos=True), ttft_at=None if ttft_s is None else at + ttft_s,
        )  # fmt: skip

    def drain(self, engine: Engine) -> None:
        while engine.has_work:
            engine.step(time.monotonic())

    def shape(self) -> tuple[list[int], int]:
        return self.ids(self._source.randint(*PROMPT_TOKENS)), self._source.randint(*ANSWER_TOKENS)

    def capacity(self, num_requests: int) -> tuple[float, float]:
        """(requests finished a second when all are there, seconds that a mean prompt takes alone)."""
        alone, whole = [], []
        for _ in range(2):  # the better of two: a neighbour on this machine must not make it look small
            engine, began_at = self.engine("fcfs"), time.monotonic()
            engine.submit(self.submit(self.ids(sum(PROMPT_TOKENS) // 2), 1))
            self.drain(engine)
            alone.append(time.monotonic() - began_at)
            began_at = time.monotonic()
            for _ in range(num_requests):
                engine.submit(self.submit(*self.shape()))
            self.drain(engine)
            whole.append(time.monotonic() - began_at)
        return num_requests / min(whole), min(alone)

    def arrivals(self, rate: float, seconds: float, alone_s: float) -> list[Arrival]:
        found: list[Arrival] = []
        at_s, mean = 0.0, sum(PROMPT_TOKENS) / 2
        while (at_s := at_s + self._source.expovariate(rate)) < seconds:
            ids, num_answer = self.shape()
            found.append(Arrival(at_s, ids, num_answer, alone_s * (TTFT_TIMES + 1.5 * len(ids) / mean)))
        return found

    def run(self, policy: Policy, factor: float, arrivals: list[Arrival], seconds: float) -> Outcome:
        """Serve these arrivals as they come; those still without a first token at the end are served to theirs."""
        engine, pending = self.engine(policy), list(reversed(arrivals))
        asked: dict[int, tuple[float, float]] = {}
        ttfts: dict[int, float] = {}
        refusals: list[float] = []
        errors: list[float] = []
        num_refused = num_tokens = 0
        began_at = time.monotonic()
        while pending or engine.has_work:
            now = time.monotonic()
            while pending and began_at + pending[-1].at_s <= now:
                arrival = pending.pop()
                at = began_at + arrival.at_s
                submit = self.submit(arrival.prompt_ids, arrival.num_answer, ttft_s=arrival.ttft_s, at=at)
                asked[submit.id] = at, arrival.ttft_s
                before = time.monotonic()
                engine.submit(submit)
                refusals.append(time.monotonic() - before)
            if not engine.has_work:
                time.sleep(max(0.0, began_at + pending[-1].at_s - now))
                continue
            output = engine.step(now)
            now = time.monotonic()
            num_refused += len(output.refusals)
            for delta in output.deltas:
                num_tokens += len(delta.token_ids)
                ttfts.setdefault(delta.id, now - asked[delta.id][0])
                if delta.timing is not None and delta.timing.predicted_ttft_s is not None:
                    actual_s = ttfts[delta.id]
                    errors.append(abs(delta.timing.predicted_ttft_s - actual_s) / actual_s)
        lasted_s = max(seconds, time.monotonic() - began_at)
        in_time = sum(ttft <= asked[id][1] for id, ttft in ttfts.items())
        return Outcome(
            policy, factor, len(arrivals), len(arrivals) - num_refused, num_refused, in_time, in_time / lasted_s,
            num_tokens / lasted_s, quantile(list(ttfts.values()), 0.5), quantile(list(ttfts.values()), 0.95),
            quantile(errors, 0.5), quantile(errors, 0.9), quantile(refusals, 0.99),
        )  # fmt: skip

    def beside(self, num_steps: int) -> Beside:
        """Four streams, then a long prompt beside them.  They guess nothing, so that a step is a token of each."""
        engine = self.engine("budget")
        alone = []
        for _ in range(2):
            began_at = time.monotonic()
            engine.submit(self.submit(self.ids(LONG_TOKENS), 1))
            self.drain(engine)
            alone.append(time.monotonic() - began_at)
        streams = [replace(self.submit(self.ids(200), 1500), drafts=False) for _ in range(NUM_STREAMS)]
        for submit in streams:
            engine.submit(submit)
        said: dict[int, float] = {}
        while len(said) < NUM_STREAMS:
            self._gaps(engine, said, 1)
        self._gaps(engine, said, num_steps // 4)
        before, _ = self._gaps(engine, said, num_steps)
        long = self.submit(self.ids(LONG_TOKENS), 1)
        engine.submit(long)
        beside, first_at = self._gaps(engine, said, 1 << 30, until=long.id)
        if not before or not beside:
            raise RuntimeError("The streams ended before the long prompt came: let them run longer.")
        for submit in streams:
            engine.cancel(submit.id)
        return Beside(
            quantile(before, 0.99), quantile(beside, 0.99), quantile(before, 0.5), quantile(beside, 0.5),
            statistics.median(alone), first_at - long.arrived_at,
        )  # fmt: skip

    def _gaps(
        self, engine: Engine, said: dict[int, float], num_steps: int, until: int | None = None
    ) -> tuple[list[float], float]:
        gaps: list[float] = []
        for _ in range(num_steps):
            deltas, now = engine.step(time.monotonic()).deltas, time.monotonic()
            for delta in deltas:
                if delta.id == until:
                    return gaps, now
                if delta.id in said:
                    gaps.append(now - said[delta.id])
                said[delta.id] = now
        return gaps, time.monotonic()


def print_report(outcomes: list[Outcome], beside: Beside) -> None:
    """The tables, as people read them."""
    click.echo(
        f"{'load':>6}{'policy':>8}{'offered':>9}{'taken':>7}{'in time':>9}{'share':>7}{'goodput':>10}"
        f"{'TTFT p50 / p95':>19}{'error p50 / p90':>18}{'submit p99':>12}"
    )
    for o in outcomes:
        ttft = f"{o.ttft_s_p50:.2f} / {o.ttft_s_p95:.2f} s"
        error = f"{o.error_p50:.0%} / {o.error_p90:.0%}"
        click.echo(
            f"{o.factor:5g}x{o.policy:>8}{o.num_offered:9}{o.num_taken:7}{o.num_in_time:9}{o.share_in_time:7.0%}"
            f"{o.goodput_per_s:8.2f}/s{ttft:>19}{error:>18}{1e3 * o.refusal_s_p99:9.1f} ms"
        )
    click.echo(
        f"{LONG_TOKENS} tokens beside {NUM_STREAMS} streams: ITL p50 {1e3 * beside.itl_s_p50_before:.1f} -> "
        f"{1e3 * beside.itl_s_p50_beside:.1f} ms, p99 {1e3 * beside.itl_s_p99_before:.1f} -> "
        f"{1e3 * beside.itl_s_p99_beside:.1f} ms ({beside.itl_times:.2f}x); its TTFT {beside.ttft_s_alone:.2f} -> "
        f"{beside.ttft_s_beside:.2f} s ({beside.ttft_times:.2f}x)"
    )


@click.command()
@click.option("--threads", default=2, show_default=True)
@click.option("--seconds", default=40.0, show_default=True, help="Seconds of arrivals in each run.")
@click.option("--seed", default=1, show_default=True)
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Write every figure here.")
@click.option("--quick", is_flag=True, help="Tiny sizes: shows that everything runs, proves nothing.")
def main(threads: int, seconds: float, seed: int, json_path: Path | None, quick: bool) -> None:
    """Measure what overload does to budgets on this machine."""
    runtime = load_runtime(model_file("smollm2-135m"), context=CONTEXT, threads=threads)
    try:
        bench, seconds = Bench(runtime, seed), 4.0 if quick else seconds
        capacity, alone_s = bench.capacity(8 if quick else 60)
        say(f"capacity {capacity:.2f} requests/s; a mean prompt takes {alone_s:.3f} s alone")
        outcomes = []
        for factor in FACTORS:
            arrivals = bench.arrivals(factor * capacity, seconds, alone_s)
            for policy in POLICIES:
                outcomes.append(bench.run(policy, factor, arrivals, seconds))
                say(f"{factor:g}x {policy}: {outcomes[-1].goodput_per_s:.2f} in time/s")
        beside = bench.beside(20 if quick else 100)
    finally:
        runtime.close()
    print_report(outcomes, beside)
    if json_path is not None:
        record = {"outcomes": [asdict(o) for o in outcomes], "beside": asdict(beside), "capacity_per_s": capacity}
        json_path.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
