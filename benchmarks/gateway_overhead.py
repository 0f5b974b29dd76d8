"""What a gateway adds in front of a server's first word, beside LiteLLM's proxy in the same run.

    python -m benchmarks.gateway_overhead              about two minutes
    python -m benchmarks.gateway_overhead --quick      to see that it works; its figures prove nothing

A mock upstream and the callers share one core; the gateway under test has the other one to itself, and the ones that
are not under test are stopped.  `direct` is the same load without a gateway: what a gateway adds is the difference of
medians (p50) and of 99th percentiles (p99) to it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from .engines import ROOT
from .gateway_load import KEY
from .peers import PeerMissing, find_peers
from .servers import HOST, Server, ServerKind, free_port

MODELS = ("mock-5-2-8", "mock-20-20-16")
SHORT, READING = MODELS
"""A short stream of eight words, and one of sixteen at the pace of a fast reader."""
NUM_PEAK, NUM_HALF = 48, 128
MB = 1 << 20


@dataclass(frozen=True, slots=True)
class Load:
    """Callers at once, for so many seconds.  rate_per_s  of requests; None: each sends its next one at once"""

    name: str
    model: str
    num_streams: int
    seconds: float
    rate_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class Figure:
    """What one load came to behind one gateway (or none).  cpu_*  of all its processes; 0 for none"""

    gateway: str
    load: str
    num_streams: int
    num_answers: int
    ttft_ms_p50: float
    ttft_ms_p99: float
    answers_per_s: float
    cpu_share: float
    cpu_us_per_event: float
    cpu_us_per_answer: float
    memory_mb: float
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Aim:
    """A figure that must be met."""

    name: str
    found: float
    bound: float
    is_least: bool = False

    @property
    def is_met(self) -> bool:
        return self.found >= self.bound if self.is_least else self.found <= self.bound


def ours(fleet: Path) -> ServerKind:
    """`isochrone up --fleet`, as a user starts it: choice, breakers, outcomes and ledger are on the way."""
    command = (
        "env", f"ISOCHRONE_API_KEY={KEY}", sys.executable, "-c", "from isochrone.cli import main; main()", "up",
        "--fleet", str(fleet), "--host", HOST, "--port", "{port}", "--log-level", "warning",
    )  # fmt: skip
    return ServerKind("isochrone", SHORT, command, has_metrics=True)


def litellm(config: Path) -> ServerKind:
    """LiteLLM's proxy with one worker, no database, its logging at its quietest; it asks for a key, as ours does."""
    command = (str(find_peers().litellm()), "--config", str(config), "--port", "{port}", "--host", HOST)
    return ServerKind("litellm", SHORT, command, has_metrics=False)


def write_fleet(folder: Path, port: int) -> Path:
    """A fleet of one place that speaks OpenAI's API."""
    models = "".join(f'\n[[place.model]]\nid = "{model}"\ncontext = 8192\n' for model in MODELS)
    path = folder / "fleet.toml"
    path.write_text(f'[[place]]\nname = "mock"\nkind = "openai"\nurl = "http://{HOST}:{port}/v1"\n{models}')
    return path


def write_litellm(folder: Path, port: int) -> Path:
    """The same fleet for LiteLLM."""
    path = folder / "litellm.yaml"
    entries = "".join(
        f"  - model_name: {model}\n    litellm_params:\n      model: openai/{model}\n"
        f"      api_base: http://{HOST}:{port}/v1\n      api_key: sk-mock\n"
        for model in MODELS
    )
    quiet = "litellm_settings:\n  set_verbose: false\n  telemetry: false\n"
    path.write_text(f"model_list:\n{entries}{quiet}general_settings:\n  master_key: {KEY}\n")
    return path


def on_core(core: int) -> Callable[[], None] | None:
    """What a child process does first: keep to that core, where there are two."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        return None
    return lambda: os.sched_setaffinity(0, {allowed[core]})


@contextmanager
def upstream(port: int) -> Iterator[None]:
    """The mock, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.gateway_upstream", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, env=environment(), preexec_fn=on_core(0), stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None and process.stdout.readline(), "the mock upstream did not start"
        yield
    finally:
        process.kill()
        process.wait()


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}


def measure(name: str, port: int, load: Load, server: Server | None) -> Figure:
    """One load against one port."""
    before_s = server.cpu_s() if server else 0.0
    words = [str(port), load.model, str(load.num_streams), str(load.seconds)]
    words += [] if load.rate_per_s is None else [str(load.rate_per_s)]
    command = [sys.executable, "-m", "benchmarks.gateway_load", *words]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), preexec_fn=on_core(0), capture_output=True, text=True, check=True
    )
    tally: dict[str, Any] = json.loads(done.stdout)
    cpu_s = server.cpu_s() - before_s if server else 0.0
    ttft = sorted(tally["ttft_s"])
    at = [1000 * ttft[min(len(ttft) - 1, int(len(ttft) * share))] if ttft else float("inf") for share in (0.5, 0.99)]
    num_answers, num_words = tally["num_streams"], tally["num_words"]
    return Figure(
        name, load.name, load.num_streams, num_answers, round(at[0], 3), round(at[1], 3),
        round(num_answers / tally["elapsed_s"], 1), round(cpu_s / tally["elapsed_s"], 3),
        round(1e6 * cpu_s / max(1, num_words), 1), round(1e6 * cpu_s / max(1, num_answers), 1),
        round(server.memory_bytes() / MB, 1) if server else 0.0, tuple(tally["problems"]),
    )  # fmt: skip


def loads(seconds: float) -> list[Load]:
    """Before the rate of the last one is known."""
    return [
        Load("1 stream", SHORT, 1, seconds), Load("32 streams", READING, 32, seconds),
        Load("128 streams", READING, 128, seconds), Load("short streams", SHORT, NUM_PEAK, seconds),
    ]  # fmt: skip


def compare(kinds: list[tuple[ServerKind, float]], port: int, folder: Path, seconds: float) -> list[Figure]:
    """All figures: direct, and behind each gateway.  Each kind with the seconds its loads get in proportion."""
    figures = [measure("direct", port, load, None) for load in loads(seconds)]
    for kind, share in kinds:
        with Server(kind, folder / f"{kind.name}.log", first=on_core(1)) as server:
            asyncio.run(wait(server))
            for model in MODELS:  # connections made, caches warm
                measure(kind.name, server.port, Load("warm", model, 8, 0.5), server)
            figures += [measure(kind.name, server.port, load, server) for load in loads(seconds * share)]
            load = at_half(kind.name, server, figures[-1].answers_per_s, seconds * share)
            figures.append(measure(kind.name, server.port, load, server))
        figures.append(measure("direct", port, load, None))
        figures[-1] = Figure(**{**asdict(figures[-1]), "load": f"{kind.name}'s half"})
    return figures


def at_half(name: str, server: Server, peak_per_s: float, seconds: float) -> Load:
    """Requests at the rate that keeps the gateway's core half busy, found by trying."""
    load = Load("at half a core", SHORT, NUM_HALF, seconds / 3, peak_per_s / 2)
    for _ in range(2):
        share = max(0.05, measure(name, server.port, load, server).cpu_share)
        load = replace(load, rate_per_s=(load.rate_per_s or 1.0) * 0.5 / share)
    return replace(load, seconds=seconds)


async def wait(server: Server) -> None:
    await server.wait_until_ready("/health/liveliness" if server.kind.name == "litellm" else "/ready")


def aims(figures: list[Figure]) -> list[Aim]:
    """What ours must reach, alone and beside LiteLLM."""
    by = {(figure.gateway, figure.load): figure for figure in figures}

    def added(name: str, load: str) -> float:
        return by[name, load].ttft_ms_p50 - by["direct", load].ttft_ms_p50

    half = by["isochrone", "at half a core"].ttft_ms_p99 - by["direct", "isochrone's half"].ttft_ms_p99
    peak = by["isochrone", "short streams"].answers_per_s
    out = [
        Aim("TTFT added, 1 stream, p50, ms", added("isochrone", "1 stream"), 0.9),
        Aim("TTFT added, 32 streams, p50, ms", added("isochrone", "32 streams"), 1.2),
        Aim("TTFT added, half a core, p99, ms", half, 3.0),
        Aim("short streams a second on one core", peak, 1000, is_least=True),
        Aim("memory, MB", max(f.memory_mb for f in figures if f.gateway == "isochrone"), 90),
        Aim("answers with a problem", float(sum(bool(f.problems) for f in figures if f.gateway == "isochrone")), 0),
    ]
    if ("litellm", "short streams") in by:
        theirs = by["litellm", "short streams"].answers_per_s
        out.append(Aim("answers a second, of LiteLLM's", peak / theirs, 10, is_least=True))
        for load in ("1 stream", "32 streams"):
            share = added("isochrone", load) / max(1e-3, added("litellm", load))
            out.append(Aim(f"TTFT added, {load}, share of LiteLLM's", share, 0.2))
    return out


def show(figures: list[Figure], found: list[Aim]) -> None:
    print(f"{'':11} {'load':17} {'answers':>8} {'ttft p50':>9} {'p99':>9} {'per s':>8} {'core':>6}"
          f" {'us/event':>9} {'us/answer':>9} {'MB':>6}")  # fmt: skip
    for f in figures:
        print(f"{f.gateway:11} {f.load:17} {f.num_answers:8} {f.ttft_ms_p50:9.2f} {f.ttft_ms_p99:9.2f}"
              f" {f.answers_per_s:8.0f} {f.cpu_share:6.2f} {f.cpu_us_per_event:9.1f} {f.cpu_us_per_answer:9.0f}"
              f" {f.memory_mb:6.1f}" + (f"  {f.problems[0][:120]}" if f.problems else ""))  # fmt: skip
    print()
    for aim in found:
        sign = ">=" if aim.is_least else "<="
        print(f"{'met   ' if aim.is_met else 'MISSED'} {aim.name:40} {aim.found:10.3f}  {sign} {aim.bound:g}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny sizes")
    parser.add_argument("--without-litellm", action="store_true", help="ours alone; the ratios are not judged")
    parser.add_argument("--json", type=Path, help="keep every figure there")
    options = parser.parse_args()
    seconds = 0.7 if options.quick else 5.0
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = free_port()
        stack.enter_context(upstream(port))
        kinds = [(ours(write_fleet(folder, port)), 1.0)]
        try:
            if not options.without_litellm:
                kinds.append((litellm(write_litellm(folder, port)), 0.8))
        except PeerMissing as missing:
            print(missing, file=sys.stderr)
            return 1
        figures = compare(kinds, port, folder, seconds)
    found = aims(figures)
    show(figures, found)
    if options.json:
        options.json.write_text(json.dumps({"figures": [asdict(f) for f in figures],
                                            "aims": [asdict(aim) for aim in found]}, indent=1))  # fmt: skip
    return 0 if all(aim.is_met for aim in found) else 1


if __name__ == "__main__":
    sys.exit(main())
