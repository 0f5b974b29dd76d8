"""Which policy keeps budgets, at what cost: recorded traffic over simulated fleets that are pressed and lose regions.

    python -m benchmarks.routing_sim [--traces DIR] [--sampling both] [--seed 3] [--num 1000] [--json FILE]
                                     [--chart FILE] [--quick]

Four traces (Azure code and conversation, 2023; Mooncake conversation and synthetic, with prefix hashes) meet three
fleets in three scenarios; every policy sees the same arrivals, budgets and luck.  A trace is sampled to --num requests
(Azure: `spread` evenly over its hour, which smooths bursts, or the `opening`, which is one; Mooncake: from its
beginning, prompts and blocks an eighth as long)
and its time is stretched to 65 % of what the fleet's own machines and 30 % of what its clouds' quotas can do; the
load step doubles that for three tenths of the run; a region loss takes the fleet's `lost` group away for as long.
"""

from __future__ import annotations

import json
import random
import timeit
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from isochrone.predict.calibration import LEVELS
from isochrone.routing.outlook import Outlook
from isochrone.routing.policy import choose
from isochrone.routing.records import Ask, Candidate, Outcome, Quantiles
from isochrone.routing.simulate.baselines import (
    Headroom,
    LowestLatency,
    PeakEwma,
    PrefixAware,
    RoundRobin,
    StaticOrder,
)
from isochrone.routing.simulate.fleets import FLEETS, SCENARIOS, Fleet, Scenario
from isochrone.routing.simulate.measures import Measures, measure
from isochrone.routing.simulate.node import NodeSpec
from isochrone.routing.simulate.oracle import Oracle
from isochrone.routing.simulate.policies import Isochrone
from isochrone.routing.simulate.trace import (
    Arrival,
    Sampling,
    at_rate,
    read_azure,
    read_mooncake,
    with_budgets,
    with_step,
)
from isochrone.routing.simulate.world import SimulatedPolicy, World

from .routing_chart import chart

TRACES = ("azure code", "azure conversation", "mooncake conversation", "mooncake synthetic")
BEGIN, END, STEP = 0.35, 0.65, 2.0
SHORTEN = 8
NUM_CANDIDATES = 20
SEED = 3
"""The one that the dials were set with; sampled requests, budgets, luck and ties all come from it."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One trace over one fleet in one scenario.

    sampling  of the Azure traces; a Mooncake trace has one of its own
    policies  ours, the oracle and all others;  ttft_kept, total_kept: shares kept of our stated quantiles (LEVELS)
    stated    mean of P(within budget) as ours stated it for what it chose
    """

    trace: str
    fleet: str
    scenario: Scenario
    rate_per_s: float
    policies: dict[str, Measures]
    ttft_kept: tuple[float, ...]
    total_kept: tuple[float, ...]
    num_seen: int
    stated: float
    sampling: Sampling = "spread"

    def best_baseline(self) -> Measures:
        """The best of the others, by goodput."""
        return max((m for n, m in self.policies.items() if n not in ("isochrone", "oracle")), key=lambda m: m.goodput)


def read_trace(name: str, directory: Path, num: int, *, seed: int, sampling: Sampling) -> list[Arrival]:
    """A trace by its name."""
    kind, _, part = name.partition(" ")
    if kind == "azure":
        return read_azure(directory / f"AzureLLMInferenceTrace_{part[:4]}.csv", num, seed=seed, sampling=sampling)
    return read_mooncake(directory / f"mooncake_{part}_trace.jsonl", num, shorten=SHORTEN, seed=seed)


def run_cell(
    trace: str, fleet_index: int, scenario: Scenario, directory: Path, num: int, seed: int, sampling: Sampling
) -> Cell:
    """All policies in one cell."""
    fleet: Fleet = FLEETS[fleet_index]()
    recorded = read_trace(trace, directory, num, seed=seed, sampling=sampling)
    rate = fleet.rate(recorded)
    arrivals = with_budgets(at_rate(recorded, rate), seed=seed)
    length_s = arrivals[-1].at_s
    down = ((fleet.lost, BEGIN * length_s, END * length_s),) if scenario == "region loss" else ()
    if scenario == "load step":
        arrivals = with_step(arrivals, begin=BEGIN, end=END, factor=STEP)
    ours = Isochrone(fleet.places, seed=seed)
    slots = {place.name: place.kind.slots for place in fleet.places if isinstance(place.kind, NodeSpec)}
    policies: list[SimulatedPolicy] = [
        RoundRobin(), StaticOrder(slots), LowestLatency(seed), PeakEwma(seed), PrefixAware(),
        Headroom(fleet.places, seed), ours,
    ]  # fmt: skip
    done = {
        one.name: measure(one.name, World(fleet.places, arrivals, one, seed=seed, groups_down=down).run())
        for one in policies
    }
    bounds = []
    for oracle in (Oracle("cheap"), Oracle("fast"), Oracle("roomy")):
        world = World(fleet.places, arrivals, oracle, seed=seed, groups_down=down)
        oracle.bind(world)
        bounds.append(measure("oracle", world.run()))
    done["oracle"] = max(bounds, key=lambda bound: bound.goodput)
    outlook = ours.outlook
    return Cell(
        trace, fleet.name, scenario, rate, done, outlook.ttft_coverage.shares(), outlook.total_coverage.shares(),
        outlook.ttft_coverage.num_seen, sum(ours.chances) / max(1, len(ours.chances)), sampling,
    )  # fmt: skip


def run_all(
    directory: Path, num: int, *, seed: int, samplings: Sequence[Sampling], num_processes: int = 2
) -> list[Cell]:
    """Every cell, in order: those of all traces, and those of the opening of the Azure traces."""
    wanted = [
        (t, f, s, seed, sampling)
        for sampling in samplings for t in TRACES if sampling == "spread" or t.startswith("azure")
        for f in range(len(FLEETS)) for s in SCENARIOS
    ]  # fmt: skip
    with ProcessPoolExecutor(num_processes) as pool:
        waiting = [pool.submit(run_cell, t, f, s, directory, num, seed, sampling) for t, f, s, seed, sampling in wanted]
        return [one.result() for one in waiting]


def time_decision() -> tuple[float, float]:
    """Seconds of a prediction of twenty candidates, and of the whole decision, prediction included (best of 7)."""
    outlook, draw = Outlook(), random.Random(1)
    candidates = [Candidate(f"p{i}", "m", network=Quantiles(0.01, 0.02, 0.03)) for i in range(NUM_CANDIDATES)]
    ask = Ask("m", "tenant", 800, ttft_s=2.0, itl_s=0.2, total_s=30.0, route="chat")
    for second in range(400):
        target, first_s = (f"p{draw.randrange(NUM_CANDIDATES)}", "m"), 0.2 + 0.3 * draw.random()
        outlook.observe(
            Outcome(target, "answered", second, second + first_s + 1.0, 800, 0, 40, second + first_s, route="chat")
        )

    def decide() -> None:
        choose(ask, candidates, outlook.see(ask, candidates, now=401.0), draw.random)

    times = [timeit.repeat(lambda: outlook.see(ask, candidates, now=401.0), number=300, repeat=7),
             timeit.repeat(decide, number=300, repeat=7)]  # fmt: skip
    return min(times[0]) / 300, min(times[1]) / 300


def print_table(cells: Sequence[Cell]) -> None:
    """Goodput of all; cost and p95 of the best three."""
    names = list(cells[0].policies)
    click.echo("share of requests answered inside their whole budget, %\n")
    head = f"{'trace':22}{'fleet':13}{'scenario':13}" + "".join(f"{name[:14]:>16}" for name in names)
    click.echo(f"{head}  of oracle")
    for cell in cells:
        goodputs = [f"{100 * cell.policies[name].goodput:.1f}" for name in names]
        ours, oracle = cell.policies["isochrone"].goodput, cell.policies["oracle"].goodput
        mark = "" if ours >= cell.best_baseline().goodput else f"  behind {cell.best_baseline().policy}"
        click.echo(
            f"{cell.trace:22}{cell.fleet:13}{cell.scenario:13}" + "".join(f"{value:>16}" for value in goodputs)
            + f"{100 * ours / oracle:>10.1f} %{mark}"
        )  # fmt: skip
    click.echo("\ncost of an answer inside its budget (USD per 1,000) / p95 of the time to first token (s)\n")
    click.echo(head)
    for cell in cells:
        pairs = [f"{1e3 * m.usd_per_good:.2f} / {m.ttft_s_p95:.1f}" for m in cell.policies.values()]
        click.echo(f"{cell.trace:22}{cell.fleet:13}{cell.scenario:13}" + "".join(f"{pair:>16}" for pair in pairs))


def summary(cells: Sequence[Cell]) -> dict[str, float]:
    """The figures that pages state."""
    ours = [cell.policies["isochrone"] for cell in cells]
    shares = [m.goodput / cell.policies["oracle"].goodput for m, cell in zip(ours, cells, strict=True)]
    weight = sum(cell.num_seen for cell in cells)
    kept = [sum(cell.ttft_kept[i] * cell.num_seen for cell in cells) / weight for i in range(len(LEVELS))]
    total = [sum(cell.total_kept[i] * cell.num_seen for cell in cells) / weight for i in range(len(LEVELS))]
    best = [cell.best_baseline() for cell in cells]
    return {
        "num_cells": len(cells),
        "num_first": sum(m.goodput >= b.goodput for m, b in zip(ours, best, strict=True)),
        "behind_at_most": max(b.goodput - m.goodput for m, b in zip(ours, best, strict=True)),
        "least_share_of_oracle": min(shares),
        "mean_share_of_oracle": sum(shares) / len(shares),
        "mean_goodput": sum(m.goodput for m in ours) / len(ours),
        "mean_goodput_of_best_baseline": sum(b.goodput for b in best) / len(best),
        "mean_cost_share_of_best_baseline": sum(
            m.usd_per_good / b.usd_per_good for m, b in zip(ours, best, strict=True)
        ) / len(best),
        "ttft_p50_kept": kept[1], "ttft_p90_kept": kept[2], "ttft_p99_kept": kept[3],
        "total_p50_kept": total[1], "total_p90_kept": total[2], "total_p99_kept": total[3],
        "within_stated": sum(cell.stated for cell in cells) / len(cells),
    }  # fmt: skip


@click.command()
@click.option("--traces", type=click.Path(path_type=Path), required=True, envvar="ISOCHRONE_TRACES",
              help="Directory of the four trace files.")  # fmt: skip
@click.option("--sampling", type=click.Choice(["both", "spread", "opening"]), default="both",
              help="Which requests of the Azure traces: spread over the hour, its opening, or one after the other.")
@click.option("--seed", default=SEED, help="Of sampling, budgets, luck and ties.  The dials were set with 3.")
@click.option("--num", default=1000, help="Requests of each trace.")
@click.option("--json", "json_file", help="Write every figure here; - is stdout.")
@click.option("--chart", "chart_file", type=click.Path(path_type=Path), help="Write the picture here (SVG).")
@click.option("--quick", is_flag=True, help="150 requests each, to see that it works.")
def main(
    traces: Path, sampling: str, seed: int, num: int, json_file: str | None, chart_file: Path | None, quick: bool
) -> None:
    """Compare all policies in all cells."""
    samplings: tuple[Sampling, ...] = ("spread", "opening")
    samplings = tuple(one for one in samplings if sampling in (one, "both"))
    all_cells = run_all(traces, 150 if quick else num, seed=seed, samplings=samplings)
    by_sampling = {one: [cell for cell in all_cells if cell.sampling == one] for one in samplings}
    predict_s, decide_s = time_decision()
    figures = {"predict_us": 1e6 * predict_s, "decide_us": 1e6 * decide_s, "seed": seed}
    for one, cells in by_sampling.items():
        figures |= {key if one == "spread" else f"opening_{key}": value for key, value in summary(cells).items()}
    document = json.dumps({"figures": figures, "cells": [asdict(cell) for cell in all_cells]}, indent=1)
    if chart_file is not None:
        chart_file.write_text(chart([(c.trace, c.fleet, c.scenario, _goodputs(c)) for c in by_sampling[samplings[0]]]))
    if json_file == "-":
        click.echo(document)
        return
    if json_file is not None:
        Path(json_file).write_text(document)
    for one, cells in by_sampling.items():
        click.echo(f"seed {seed}, sampling {one}" + (" (of the Azure traces)\n" if one == "opening" else "\n"))
        print_table(cells)
        print_summary(cells, summary(cells))
    click.echo(f"{NUM_CANDIDATES} candidates: prediction {1e6 * predict_s:.0f} us (aim 60), whole decision "
               f"{1e6 * decide_s:.0f} us (aim 150)")  # fmt: skip


def print_summary(cells: Sequence[Cell], figures: dict[str, float]) -> None:
    """The figures of one sampling."""
    click.echo(f"\nfirst in {figures['num_first']:.0f} of {len(cells)} cells, elsewhere behind by at most "
               f"{100 * figures['behind_at_most']:.1f} points; of the oracle's goodput at least "
               f"{figures['least_share_of_oracle']:.1%}, on average {figures['mean_share_of_oracle']:.1%}")  # fmt: skip
    click.echo(f"calibration, shares kept of what was stated as p50 / p90 / p99: first token "
               f"{figures['ttft_p50_kept']:.1%} / {figures['ttft_p90_kept']:.1%} / {figures['ttft_p99_kept']:.1%}, "
               f"total {figures['total_p50_kept']:.1%} / {figures['total_p90_kept']:.1%} / "
               f"{figures['total_p99_kept']:.1%}")  # fmt: skip
    click.echo(f"P(within budget): stated {figures['within_stated']:.1%}, kept {figures['mean_goodput']:.1%}\n")


def _goodputs(cell: Cell) -> dict[str, float]:
    return {name: one.goodput for name, one in cell.policies.items()}


if __name__ == "__main__":
    main()
