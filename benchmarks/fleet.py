"""A fleet of real processes: calm arrivals against the simulator's twin, then two hundred streams under fire.

    python -m benchmarks.fleet [--json FILE] [--quick]

Two nodes of unequal speed (the real model) at the end of delayed wires, an OpenAI-compatible server and the test
clouds of Amazon's and Google's protocols stand behind one gateway.  First the nodes' speeds are measured and calm
traffic is answered: times stated by the gateway are held against what came, and the same traffic, places and policy
run in the simulator.  Then nodes are killed, stopped, cut off and slowed, and each answer is held against the one
that an undisturbed node gives.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from isochrone.testing.demo import LocalFleet
from isochrone.testing.demo.fleet import MODEL

from .fleet_load import PROMPTS, calibration, figures, mixed, opened, storm, undisturbed, usual_troubles, wrong_texts
from .fleet_twin import calm, goodput, measured, twin

SEED = 7
MAX_TOKENS = 32
SETTLE_S = 2.0
"""The ledger writes in batches."""
AGREES = 0.1


async def calm_run(folder: Path, num: int, rate_per_s: float) -> dict[str, Any]:
    """Calm traffic, its calibration, and the simulator's word on it."""
    draw = random.Random(SEED)
    async with LocalFleet(folder) as fleet:
        nodes = await measured(fleet, draw)
        streams, ats = await calm(fleet, num=num, rate_per_s=rate_per_s, max_tokens=MAX_TOKENS, draw=draw)
        await asyncio.sleep(SETTLE_S)
        stated = calibration(fleet.ledger, streams)
    real = figures(streams, ats[-1]) | {"goodput": goodput(streams)}
    simulated = twin(nodes, streams, ats)
    told = {
        name: statistics.median(getattr(one, name) for one in simulated)
        for name in ("ttft_s_p50", "ttft_s_p95", "goodput")
    }
    return {
        "nodes": {name: asdict(spec) for name, spec in nodes.items()}, "real": real, "simulated": told,
        "simulated_over_real": {name: value / real[name] for name, value in told.items()},
        "calibration": asdict(stated),
    }  # fmt: skip


async def storm_run(folder: Path, num: int) -> dict[str, Any]:
    """Streams under fire."""
    streams = mixed(num, PROMPTS)
    num_own = sum(stream.model == MODEL for stream in streams)
    async with opened(folder) as fleet:
        right = await undisturbed(fleet, PROMPTS, MAX_TOKENS)
        took_s = await storm(
            fleet, streams, usual_troubles(num_own), MAX_TOKENS, lambda text: click.echo(text, err=True)
        )
    found = figures(streams, took_s)
    return found | {
        "num_wrong": len(wrong_texts(streams, right)), "untyped": [one.untyped for one in streams if one.untyped]
    }  # fmt: skip


async def run(num: int, num_calm: int, rate_per_s: float) -> dict[str, Any]:
    """Both, each over a fleet of its own."""
    with tempfile.TemporaryDirectory(prefix="isochrone-fleet-") as folder:
        quiet = await calm_run(Path(folder) / "calm", num_calm, rate_per_s)
        return {"calm": quiet, "storm": await storm_run(Path(folder) / "storm", num)}


@click.command()
@click.option("--num", default=200, help="Streams under fire.")
@click.option("--num-calm", default=200, help="Requests of the calm run.")
@click.option("--rate", "rate_per_s", default=3.0, help="Of them, in a second.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write every figure here.")
@click.option("--quick", is_flag=True, help="A few requests, to see that it works.")
def main(num: int, num_calm: int, rate_per_s: float, json_file: Path | None, quick: bool) -> None:
    """Run both parts."""
    found = asyncio.run(run(40, 24, rate_per_s) if quick else run(num, num_calm, rate_per_s))
    text = json.dumps(found, indent=1)
    click.echo(text)
    if json_file is not None:
        json_file.write_text(text)
    bad = found["storm"]["num_wrong"] + found["storm"]["num_untyped"]
    ratios = found["calm"]["simulated_over_real"].values()
    if not quick and any(abs(ratio - 1.0) > AGREES for ratio in ratios):
        click.echo("The simulator is more than 10 % off.", err=True)
        bad += 1
    raise SystemExit(1 if bad else 0)


if __name__ == "__main__":
    main()
