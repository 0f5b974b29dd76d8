"""What a model takes on this machine, each figure beside the limit that the machine's profile sets.

Everything runs through the engine: schedule, sampling and cache included.  Prompts are random tokens, fresh each time,
so that no prefix cache helps.  A figure is the median of its rounds; what else runs on the machine is in it.
"""

from __future__ import annotations

import datetime
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from isochrone import units
from isochrone.config import Settings
from isochrone.engine.engine import Engine
from isochrone.engine.records import Delta, SamplingParams, Submit, error_of
from isochrone.errors import NotFound
from isochrone.graph.summary import StageSummary, summarise
from isochrone.profile import MachineProfile, load_profile, profile_path
from isochrone.runtime.pool import usable_cores
from isochrone.weights import open_checkpoint

from .inspecting import Inspection
from .loading import load_model, loading_of
from .reading import locate

NUM_ROUNDS = 3
PROMPT_TOKENS = 20
DEPTH = 2048
NUM_STEPS = 48
"""Decode steps of one round: long against a timer's tick, short against a user's patience."""
PROMPT = "In a small town at the foot of the mountains there lived an old clockmaker who one morning found that"

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Figure:
    """One measurement.  limit  what the machine allows at most (or at least, for times); None when unknown or none"""

    name: str
    value: float
    unit: str
    limit: float | None = None

    @property
    def share_of_limit(self) -> float | None:
        """How near the limit it is, 0 to 1, for rates and for times alike."""
        if self.limit is None or not self.value:
            return None
        return self.limit / self.value if self.unit == "s" else self.value / self.limit

    @property
    def shown(self) -> str:
        """The value for people."""
        return _show(self.value, self.unit)

    @property
    def shown_limit(self) -> str:
        """The limit for people."""
        return "-" if self.limit is None else _show(self.limit, self.unit)

    @property
    def shown_share(self) -> str:
        """The share for people."""
        return "-" if self.share_of_limit is None else f"{self.share_of_limit:.0%}"


@dataclass(frozen=True, slots=True)
class BenchReport:
    """All figures of a model, with what it takes to repeat them."""

    model: str
    machine: str
    isa: str
    threads: int
    date: str
    figures: tuple[Figure, ...]


@dataclass(frozen=True, slots=True)
class Limits:
    """The least time that a step can take on this machine.

    profile  None without a probe: then nothing is known
    decode   price of one token without, and with, DEPTH tokens before it
    """

    profile: MachineProfile | None
    threads: int
    decode: StageSummary
    deep: StageSummary

    def decode_s(self, batch: int, *, is_deep: bool) -> float | None:
        """One step of `batch` sequences: weights once, caches of all, arithmetic of all."""
        if self.profile is None:
            return None
        cache_bytes = self.deep.activation_bytes - self.decode.activation_bytes if is_deep else 0
        moved = self.decode.weight_bytes + batch * cache_bytes
        read_s = moved / self.profile.bandwidth(self.decode.weight_bytes, self.threads)
        return max(read_s, batch * self.decode.flops_per_token / self.profile.int8.at(self.threads))

    def prefill_s(self, num_tokens: int) -> float | None:
        """A prompt: all its arithmetic at the peak of int8, or the weights once."""
        if self.profile is None:
            return None
        compute_s = num_tokens * self.decode.flops_per_token / self.profile.int8.at(self.threads)
        return max(compute_s, self.decode_s(1, is_deep=False) or 0.0)


def run_bench(model: str, settings: Settings, *, progress: Progress = lambda what: None) -> BenchReport:
    """Measure a model here.  Raises as loading does."""
    path = locate(model, offline=settings.offline)
    threads = settings.threads or usable_cores()
    inspection = Inspection(model, open_checkpoint(path), settings)
    limits = Limits(
        _profile(), threads, summarise(inspection.graph)[-1], summarise(inspection.graph, depth=DEPTH)[-1]
    )
    progress("starting, with nothing and with everything cached")
    figures = list(_starts(path, settings))
    runtime = load_model(**loading_of(path, settings))
    try:
        figures += _speeds(Bench(Engine(runtime)), limits, progress)
    finally:
        runtime.close()
    machine = limits.profile.cpu if limits.profile else "not probed"
    today = datetime.date.today().isoformat()
    return BenchReport(model, machine, inspection.target.name, threads, today, tuple(figures))


def _speeds(bench: Bench, limits: Limits, progress: Progress) -> Iterable[Figure]:
    bench.prefill_s(PROMPT_TOKENS)  # pages touched, workers awake
    progress("first token and prefill")
    yield Figure("first token, 20-token prompt", bench.prefill_s(PROMPT_TOKENS), "s", limits.prefill_s(PROMPT_TOKENS))
    for num_tokens in (512, 2048):
        if num_tokens < bench.context:
            rate = num_tokens / bench.prefill_s(num_tokens)
            yield Figure(f"prefill {num_tokens}", rate, "tokens/s", _rate(num_tokens, limits.prefill_s(num_tokens)))
    yield Figure("memory after prefill", float(pss_bytes()), "B")
    for batch, depth in ((1, 0), (4, 0), (16, 0), (1, DEPTH)):
        if depth + NUM_STEPS < bench.context:
            progress(f"decode, batch {batch}, depth {depth}")
            limit = _rate(batch, limits.decode_s(batch, is_deep=depth > 0))
            yield Figure(f"decode, batch {batch}, depth {depth}", bench.decode_per_s(batch, depth), "tokens/s", limit)
    yield Figure("memory after decode", float(pss_bytes()), "B")


class Bench:
    """An engine, asked for random texts."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._random = random.Random(0)
        self._num_asked = 0

    @property
    def context(self) -> int:
        """Most tokens of prompt and answer together."""
        return self._engine.info.num_sequence_tokens_max

    def prefill_s(self, num_tokens: int) -> float:
        """Median seconds from asking to the first token."""
        rounds = []
        for _ in range(NUM_ROUNDS):
            began_at = time.perf_counter()
            self._ask(num_tokens, 1)
            self._finish()
            rounds.append(time.perf_counter() - began_at)
        return statistics.median(rounds)

    def decode_per_s(self, batch: int, depth: int) -> float:
        """Median tokens a second of all sequences together, once each has its first."""
        rounds = []
        for _ in range(NUM_ROUNDS):
            for _ in range(batch):
                self._ask(max(depth, 8), NUM_STEPS)
            begun: set[int] = set()
            while len(begun) < batch:
                begun |= {delta.id for delta in self._step()}
            began_at, num_tokens = time.perf_counter(), self._finish()
            rounds.append(num_tokens / (time.perf_counter() - began_at))
        return statistics.median(rounds)

    def _ask(self, num_prompt: int, max_tokens: int) -> int:
        self._num_asked += 1
        vocabulary = self._engine.info.vocab_size
        prompt = [self._random.randrange(vocabulary) for _ in range(num_prompt)]
        sampling = SamplingParams(temperature=0.0, ignore_eos=True)
        self._engine.submit(
            Submit(
                id=self._num_asked, prompt_ids=prompt, max_tokens=max_tokens, sampling=sampling,
                arrived_at=time.monotonic(),
            )
        )  # fmt: skip
        return self._num_asked

    def _finish(self) -> int:
        """Run until nothing is left; returns the tokens drawn."""
        num_tokens = 0
        while self._engine.has_work:
            num_tokens += sum(len(delta.token_ids) for delta in self._step())
        return num_tokens

    def _step(self) -> list[Delta]:
        output = self._engine.step(time.monotonic())
        for refusal in output.refusals:
            raise error_of(refusal)
        return output.deltas


def _starts(path: Path, settings: Settings) -> Iterable[Figure]:
    """Process start to first token of `complete`: nothing cached but the model, then everything."""
    with tempfile.TemporaryDirectory(prefix="isochrone-bench-") as home:
        yield Figure("start, nothing cached", first_byte_s(path, settings, home), "s")
        yield Figure(
            "start, everything cached", statistics.median(first_byte_s(path, settings, home) for _ in range(5)), "s"
        )


def first_byte_s(path: Path, settings: Settings, home: str) -> float:
    """Seconds from starting the process to the first byte of its answer."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ISOCHRONE_")}
    environment |= {"ISOCHRONE_HOME": home, "ISOCHRONE_WEIGHTS": settings.weights}
    for key, value in (("ISA", settings.isa), ("THREADS", settings.threads), ("PACK", settings.pack)):
        if value is not None:
            environment[f"ISOCHRONE_{key}"] = str(value)
    command = [sys.executable, "-m", "isochrone.cli", "complete", str(path.absolute()), PROMPT, "--max-tokens", "2"]
    began_at = time.perf_counter()
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
    ) as process:
        assert process.stdout is not None
        first = process.stdout.read(1)
        took_s = time.perf_counter() - began_at
        process.stdout.read()
    if not first or process.returncode:
        raise NotFound("A fresh start gave no answer.", fix=f"See what it says: {' '.join(command)}")
    return took_s


def pss_bytes() -> int:
    """This process's memory, pages shared with others counted in part."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def _profile() -> MachineProfile | None:
    try:
        return load_profile(profile_path())
    except NotFound:
        return None


def _rate(num_tokens: int, seconds: float | None) -> float | None:
    return None if seconds is None else num_tokens / seconds


def _show(value: float, unit: str) -> str:
    match unit:
        case "s":
            return units.format_duration(value)
        case "B":
            return units.format_bytes(round(value))
        case _:
            return f"{value:.1f} {unit}"
