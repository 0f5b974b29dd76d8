"""What a model takes on this machine, each figure beside the limit that the machine's profile sets.

Everything runs through the engine: schedule, sampling and cache included.  Prompts are random tokens, so that no
earlier request has cached them.  What else runs on the machine is in the figures, so its load is stated with them.
"""

from __future__ import annotations

import datetime
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from isochrone import units
from isochrone.compiler.table import PAGE_TOKENS
from isochrone.config import Settings
from isochrone.engine.engine import Engine
from isochrone.errors import NotFound
from isochrone.graph.summary import StageSummary, summarise
from isochrone.profile import MachineProfile, load_profile, profile_path
from isochrone.runtime.cores import usable_cores
from isochrone.runtime.cpu import CpuRuntime
from isochrone.weights import open_checkpoint

from .inspecting import Inspection
from .loading import load_model, loading_of
from .reading import locate
from .rounds import NUM_STEPS, Rounds, median_of, pss_bytes, start

PROMPT_TOKENS = 20
DEPTH = 2048
DECODES = ((1, 0), (4, 0), (16, 0), (1, DEPTH))
"""(sequences, tokens before the first that is measured)."""

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Figure:
    """One measurement.

    limit       what the machine allows at most; at least, for times and for memory; None when it was never probed
    num_rounds  how many rounds it is the median of: fewer where a busy machine made them long
    """

    name: str
    value: float
    unit: str
    limit: float | None = None
    num_rounds: int = 1

    @property
    def share_of_limit(self) -> float | None:
        """How near the limit it is, 0 to 1, for rates, times and memory alike."""
        if self.limit is None or not self.value:
            return None
        return self.value / self.limit if self.unit == "tokens/s" else self.limit / self.value

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
    """All figures of a model, with what it takes to repeat them.

    load  runnable threads of others a core, when it began: above one half, the figures are those of a busy machine
    """

    model: str
    machine: str
    isa: str
    threads: int
    date: str
    load: float
    figures: tuple[Figure, ...]


@dataclass(frozen=True, slots=True)
class Limits:
    """The least that a step can take on this machine.

    profile          None without a probe: then times have no limit
    token            price of one token without any before it
    cache_bytes      what one token before it adds to the reading
    """

    profile: MachineProfile | None
    threads: int
    token: StageSummary
    cache_bytes: float

    def decode_s(self, batch: int, depth: int) -> float | None:
        """One step of `batch` sequences: weights once, caches of all, arithmetic of all."""
        if self.profile is None:
            return None
        moved = self.token.weight_bytes + batch * depth * self.cache_bytes
        read_s = moved / self.profile.bandwidth(self.token.weight_bytes, self.threads)
        return max(read_s, batch * self.token.flops_per_token / self.profile.int8.at(self.threads))

    def prefill_s(self, num_tokens: int) -> float | None:
        """A prompt: all its arithmetic at the peak of int8, or the weights once."""
        if self.profile is None:
            return None
        compute_s = num_tokens * self.token.flops_per_token / self.profile.int8.at(self.threads)
        return max(compute_s, self.decode_s(1, 0) or 0.0)


def run_bench(model: str, settings: Settings, *, progress: Progress = lambda what: None) -> BenchReport:
    """Measure a model here: some 20 s on a quiet machine, some minutes on a busy one.  Raises as loading does."""
    load = os.getloadavg()[0] / usable_cores()
    path, threads = locate(model, offline=settings.offline), settings.threads or usable_cores()
    inspection = Inspection(model, open_checkpoint(path), settings)
    token, target = summarise(inspection.graph)[-1], inspection.target
    del inspection  # its memory is none of the model's
    profile = _profile()
    runtime = load_model(**loading_of(path, settings))
    try:
        limits = Limits(profile, threads, token, runtime.plan.page_bytes / PAGE_TOKENS)
        figures = (*_starts(path, settings, limits, progress), *_speeds(runtime, limits, progress))
    finally:
        runtime.close()
    machine, today = profile.cpu if profile else "not probed", datetime.date.today().isoformat()
    return BenchReport(model, machine, target.name, threads, today, load, figures)


def _starts(path: Path, settings: Settings, limits: Limits, progress: Progress) -> Iterator[Figure]:
    """Process start to first token of `complete`: nothing cached but the model, then everything."""
    limit = limits.prefill_s(PROMPT_TOKENS)
    with tempfile.TemporaryDirectory(prefix="isochrone-bench-") as home:
        progress("start, nothing cached")
        yield Figure("start, nothing cached", start(path, settings, home).first_byte_s, "s", limit)
        progress("start, everything cached")
        memory: list[int] = []

        def warm() -> float:
            begun = start(path, settings, home)
            memory.append(begun.pss_bytes)
            return begun.first_byte_s

        value, num_rounds = median_of(warm)
        yield Figure("start, everything cached", value, "s", limit, num_rounds)
        yield Figure("memory at its first token", float(max(memory)), "B", float(limits.token.weight_bytes))


def _speeds(runtime: CpuRuntime, limits: Limits, progress: Progress) -> Iterator[Figure]:
    rounds = Rounds(Engine(runtime))
    rounds.prefill_s(PROMPT_TOKENS)  # pages touched, workers awake
    progress("first token, 20-token prompt")
    value, num_rounds = median_of(partial(rounds.prefill_s, PROMPT_TOKENS))
    yield Figure("first token, 20-token prompt", value, "s", limits.prefill_s(PROMPT_TOKENS), num_rounds)
    for num_tokens in (512, 2048):
        if num_tokens < rounds.context:
            progress(f"prefill {num_tokens}")
            seconds, num_rounds = median_of(partial(rounds.prefill_s, num_tokens))
            limit = _rate(num_tokens, limits.prefill_s(num_tokens))
            yield Figure(f"prefill {num_tokens}", num_tokens / seconds, "tokens/s", limit, num_rounds)
    for batch, depth in DECODES:
        if depth + NUM_STEPS < rounds.context:
            progress(f"decode, batch {batch}, depth {depth}")
            rate, num_rounds = rounds.decode_per_s(batch, depth)
            limit = _rate(batch, limits.decode_s(batch, depth))
            yield Figure(f"decode, batch {batch}, depth {depth}", rate, "tokens/s", limit, num_rounds)
    floor = runtime.plan.weights_bytes + rounds.num_pages_used * runtime.plan.page_bytes
    yield Figure("memory after all of this", float(pss_bytes(os.getpid())), "B", float(floor))


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
