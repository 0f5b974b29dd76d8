"""Isochrone beside llama.cpp and OpenVINO GenAI: the same GGUF file, the same two cores, turn by turn.

    setsid -w python -m benchmarks.vs_peers [--model NAME ...] [--rounds 5] [--json FILE]

Each round asks every engine for every figure, in an order that rotates, with prompts no cache has seen; the medians
are compared.  A peer runs in the setting that is its best for that figure, and its figure must come within 10 % of
its own bench tool on this machine, or the run is void.  Ours goes through `Engine`: scheduling, sampling and
detokenising are in it.  Exit status 1 when a figure misses its gate, a peer is missing, or the run is void.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import statistics
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import click

from isochrone.compiler.isa import TARGETS, available_targets, choose_target
from isochrone.weights import store

from . import random_models
from .engines import Lengths, Process, own_group, run_own_tools, variants
from .gates import (
    GATES,
    LLAMA,
    METRICS,
    OPENVINO,
    OURS,
    PREFILL_512,
    SHAPES,
    SHARES_ALONE,
    Gate,
    Limits,
    Row,
    judge,
    share_of_limit,
)  # fmt: skip
from .peers import PeerMissing, find_peers

TOLERANCE = 0.10
"""How far below its own bench tool a peer's figure may be."""
QUICK = Lengths(short=64, long=96, depth=64, num_tokens=8)


@dataclass(slots=True)
class Report:
    """Everything one model's comparison found."""

    model: str
    file: str
    rows: list[Row] = field(default_factory=list)
    settings: dict[str, dict[str, str]] = field(default_factory=dict)
    own_tool: dict[str, float] = field(default_factory=dict)
    limits: Limits | None = None
    rounds: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    void: list[str] = field(default_factory=list)

    @property
    def has_failed(self) -> bool:
        """Whether some gate was missed or the run proves nothing."""
        return bool(self.void) or any(row.verdict is False for row in self.rows)


@dataclass(frozen=True, slots=True)
class Plan:
    """How the comparison runs."""

    threads: int
    num_rounds: int
    lengths: Lengths
    seed: int
    is_judged_by_shares: bool


def model_file(name: str) -> Path:
    """The GGUF file: the real model from the store (pulled when missing), the others from seeded noise."""
    if name in random_models.MODELS:
        return random_models.ensure_model(name)
    return store.resolve(name)


def compare(name: str, plan: Plan) -> Report:
    """Measure one model with every engine."""
    peers, path = find_peers(), model_file(name)
    report = Report(name, str(path))
    asks_openvino = any(gate.openvino for gate in GATES[name].values())
    source = random.Random(plan.seed)
    with contextlib.ExitStack() as stack:
        processes = []
        for variant in variants(peers, path, plan.threads, with_openvino=asks_openvino):
            say(f"{name}: starting {variant.engine} {variant.setting}")
            processes.append(stack.enter_context(Process(variant, plan.threads)))
        best = choose_settings(processes, source, plan.lengths)
        report.settings = {metric: {e: p.variant.setting for e, p in chosen.items()} for metric, chosen in best.items()}
        own_limits = ask_ours(best).ask(do="limits")
        run_rounds(report, best, source, plan)
        check_peers(report, best, processes, path, plan, source)
    report.limits = Limits(own_limits["read_bytes_per_s"], own_limits["int8_per_s"])
    report.rows = [make_row(report, metric, own_limits, path, plan) for metric in METRICS]
    return report


def choose_settings(
    processes: list[Process], source: random.Random, lengths: Lengths
) -> dict[str, dict[str, Process]]:
    """For each metric, each engine in the setting that was fastest; the first try of all warms everything."""
    best: dict[str, dict[str, Process]] = {}
    for metric in METRICS:
        figures = {}
        for process in processes:
            process.measure(metric, source, QUICK)
            figures[process] = process.measure(metric, source, lengths)
            say(f"  {metric}: {process.variant.engine} {process.variant.setting} {figures[process]:.1f}")
        best[metric] = {}
        for process in sorted(processes, key=lambda p: figures[p]):
            best[metric][process.variant.engine] = process
    return best


def ask_ours(best: dict[str, dict[str, Process]]) -> Process:
    """Our own worker."""
    return best[METRICS[0]][OURS]


def run_rounds(report: Report, best: dict[str, dict[str, Process]], source: random.Random, plan: Plan) -> None:
    """All figures of all engines, again and again; who begins changes with the round."""
    report.rounds = {metric: {engine: [] for engine in chosen} for metric, chosen in best.items()}
    for number in range(plan.num_rounds):
        for metric, chosen in best.items():
            engines = list(chosen)
            for engine in engines[number % len(engines) :] + engines[: number % len(engines)]:
                figure = chosen[engine].measure(metric, source, plan.lengths)
                report.rounds[metric][engine].append(figure)
        say(f"{report.model}: round {number + 1} of {plan.num_rounds} done")


def check_peers(
    report: Report, best: dict[str, dict[str, Process]], processes: Iterable[Process], path: Path, plan: Plan,
    source: random.Random,
) -> None:  # fmt: skip
    """Hold the peers against their own tools, while every worker is stopped.

    The machine drifts between the rounds and the tools, so a figure taken right after the tool's counts as well.
    """
    for flash in sorted({best[metric][LLAMA].variant.setting.split()[-1] for metric in METRICS}):
        say(f"{report.model}: llama-bench, flash attention {flash}")
        own = run_own_tools(find_peers(), path, plan.threads, flash, plan.lengths)
        for metric in METRICS:
            if best[metric][LLAMA].variant.setting.endswith(flash):
                report.own_tool[metric] = own[metric]
    for metric, own_figure in report.own_tool.items():
        again = best[metric][LLAMA].measure(metric, source, plan.lengths)
        figure = max(again, statistics.median(report.rounds[metric][LLAMA]))
        if figure < (1.0 - TOLERANCE) * own_figure:
            report.void.append(f"{LLAMA} did {figure:.1f} at {metric} and {own_figure:.1f} under its own tool.")
    for process in processes:
        slowest = process.ask(do="about").get("prefill_over_its_own_ttft", 0.0)
        if process in best[PREFILL_512].values() and slowest > 1.0 + TOLERANCE:
            report.void.append(f"{OPENVINO}'s prefill took {slowest:.2f} times the TTFT that it reports itself.")


def make_row(report: Report, metric: str, own_limits: dict[str, float], path: Path, plan: Plan) -> Row:
    """Medians, shares and verdict of one metric."""
    assert report.limits is not None
    medians = {engine: statistics.median(figures) for engine, figures in report.rounds[metric].items()}
    shape = SHAPES[report.model]
    shares = {}
    for engine, figure in medians.items():
        num_bytes = own_limits["weight_bytes"] if engine == OURS else path.stat().st_size
        item_bytes = {OURS: own_limits["kv_item_bytes"], OPENVINO: 1.0}.get(engine, 2.0)
        shares[engine] = share_of_limit(metric, figure, shape, num_bytes, item_bytes, report.limits)
    gate: Gate = (SHARES_ALONE if plan.is_judged_by_shares else GATES[report.model])[metric]
    return Row(metric, medians, shares, gate, judge(gate, medians, shares[OURS]))


def print_report(report: Report) -> None:
    """The table, as people read it."""
    assert report.limits is not None
    limits = report.limits
    click.echo(f"\n{report.model}  ({report.file})")
    click.echo(f"limits here: read {limits.read_bytes_per_s / 1e9:.1f} GB/s, int8 {limits.int8_per_s / 1e9:.0f} GOP/s")
    engines = list(report.rows[0].tokens_per_s)
    heads = "".join(f"{engine:>24}" for engine in sorted(engines, key=[OURS, LLAMA, OPENVINO].index))
    click.echo(f"{'tokens/s (of limit)':20}{heads}   ratios")
    for row in report.rows:
        cells = "".join(
            f"{f'{row.tokens_per_s[e]:.1f} ({row.share[e]:.0%})':>24}"
            for e in sorted(row.tokens_per_s, key=[OURS, LLAMA, OPENVINO].index)
        )
        ratios = ", ".join(f"{row.ratio(peer):.2f}x {peer}" for peer in (LLAMA, OPENVINO) if peer in row.tokens_per_s)
        mark = {True: "met", False: "MISSED", None: ""}[row.verdict]
        click.echo(f"{row.metric:20}{cells}   {ratios}   {row.gate}   {mark}")
    for metric, setting in report.settings.items():
        chosen = ", ".join(f"{engine}: {text}" for engine, text in setting.items() if text)
        own = report.own_tool.get(metric)
        click.echo(f"  {metric}: {chosen}; llama.cpp's own tool {own:.1f}" if own else f"  {metric}: {chosen}")
    for reason in report.void:
        click.echo(f"VOID: {reason}")


def as_record(report: Report) -> dict[str, object]:
    """The report for --json: every single figure included."""
    record = asdict(report)
    record["rows"] = [
        {**asdict(row), "gate": str(row.gate), "ratio": {p: row.ratio(p) for p in (LLAMA, OPENVINO)}}
        for row in report.rows
    ]
    return record


def is_weaker_than_machine() -> bool:
    """Whether ISOCHRONE_ISA asks for less than this processor has: then peers have more, and shares judge."""
    return TARGETS[choose_target().name].dot != available_targets()[-1].dot


def say(text: str) -> None:
    """Progress, on stderr."""
    click.echo(text, err=True)


@click.command()
@click.option("--model", "models", multiple=True, type=click.Choice(list(GATES)), help="Which models; all by default.")
@click.option("--rounds", "num_rounds", default=5, show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--seed", default=1, show_default=True, help="Seed of the prompts.")
@click.option("--json", "json_path", help="Write every figure to this file; - prints them, and judges nothing.")
@click.option("--quick", is_flag=True, help="Tiny lengths: shows that everything runs, proves nothing.")
def main(
    models: tuple[str, ...], num_rounds: int, threads: int, seed: int, json_path: str | None, quick: bool
) -> None:
    """Compare Isochrone with llama.cpp and OpenVINO GenAI on this machine."""
    cpus = sorted(os.sched_getaffinity(0))[:threads]
    if len(cpus) < threads:
        raise click.UsageError(f"{threads} threads were asked for, and this process may use {len(cpus)} cores.")
    say(f"cores {cpus} in {own_group(cpus)}")
    plan = Plan(threads, num_rounds, QUICK if quick else Lengths(), seed, is_weaker_than_machine())
    try:
        reports = [compare(name, plan) for name in models or tuple(GATES)]
    except PeerMissing as missing:
        raise click.ClickException(str(missing)) from missing
    records = json.dumps([as_record(report) for report in reports], indent=2)
    if json_path == "-":
        click.echo(records)
        return
    for report in reports:
        print_report(report)
    if json_path is not None:
        Path(json_path).write_text(records + "\n")
    sys.exit(any(report.has_failed for report in reports))


if __name__ == "__main__":
    main()
