"""Streaming clients against Isochrone and llama-server, then hang-ups, then a busy core.

    setsid -w python -m benchmarks.serving [--json FILE] [--quick]

Load: 1, 4 and 16 clients in a closed loop, 90-token prompts never seen before, 64-token answers; client and servers
on the same two cores.  Hang-ups: 64 clients for a minute, half of whom leave at a random token.  Busy core: the rate
of one stream while another process wants one of the cores.  Exit status 1 when an aim is missed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from .engines import own_group
from .peers import PeerMissing, find_peers
from .servers import Server, ServerKind, llama_server, ours
from .serving_measures import QUICK, Busy, HangUps, Load, Sizes, measure_busy, measure_hang_ups, measure_load
from .vs_peers import model_file, say

TTFT_S_MAX, RATE_TIMES_MIN, BUSY_SHARE_MIN = 1.0, 4.0, 0.65
CLIENTS = (1, 4, 16)


@dataclass(slots=True)
class Report:
    """Everything that was found."""

    loads: list[Load]
    hang_ups: HangUps
    busy: list[Busy]

    def load(self, server: str, num_clients: int) -> Load:
        """The load of one server with that many clients."""
        return next(load for load in self.loads if (load.server, load.num_clients) == (server, num_clients))

    @property
    def failures(self) -> list[str]:
        """Aims that were missed, in words."""
        found = [f"{load.server}, {load.num_clients} clients: {text}" for load in self.loads for text in load.problems]
        mine, theirs = self.load("Isochrone", CLIENTS[-1]), self.load("llama-server", CLIENTS[-1])
        if not mine.ttft_s_p50 <= TTFT_S_MAX:
            found.append(f"TTFT p50 with {CLIENTS[-1]} clients is {mine.ttft_s_p50:.2f} s, above {TTFT_S_MAX} s")
        if not mine.tokens_per_s >= RATE_TIMES_MIN * theirs.tokens_per_s:
            times = mine.tokens_per_s / theirs.tokens_per_s
            found.append(f"with {CLIENTS[-1]} clients, {times:.2f}x llama-server's tokens/s, below {RATE_TIMES_MIN}x")
        busy = next(busy for busy in self.busy if busy.server == "Isochrone")
        if not busy.share >= BUSY_SHARE_MIN:
            found.append(f"beside a busy core decode keeps {busy.share:.0%}, below {BUSY_SHARE_MIN:.0%}")
        return found + self.hang_ups.failures


async def run(kinds: Sequence[ServerKind], sizes: Sizes, seed: int) -> Report:
    """Start both servers, let each run only while it is measured."""
    source, loads, busy = random.Random(seed), [], []
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers = [stack.enter_context(Server(kind, directory / f"{kind.name}.log")) for kind in kinds]
        for server in servers:
            await server.wait_until_ready()
            await measure_load(server, 1, source, QUICK)
            server.pause()
        for num_clients in CLIENTS:
            for server in servers:
                server.resume()
                loads.append(await measure_load(server, num_clients, source, sizes))
                server.pause()
                say(f"{server.kind.name}, {num_clients} clients: {loads[-1].tokens_per_s:.0f} tokens/s")
        for server in servers:
            server.resume()
            busy.append(await measure_busy(server, source, sizes))
            server.pause()
            say(f"{server.kind.name} beside a busy core: {busy[-1].share:.0%}")
        mine = next(server for server in servers if server.kind.has_metrics)
        mine.resume()
        hang_ups = await measure_hang_ups(mine, source, sizes)
    return Report(loads, hang_ups, busy)


def print_report(report: Report) -> None:
    """The tables, as people read them."""
    click.echo(f"{'server':14}{'clients':>8}{'TTFT p50 / p99':>20}{'ITL p50 / p99':>20}{'tokens/s':>10}")
    for load in report.loads:
        ttft = f"{load.ttft_s_p50:.2f} / {load.ttft_s_p99:.2f} s"
        itl = f"{1e3 * load.itl_s_p50:.0f} / {1e3 * load.itl_s_p99:.0f} ms"
        click.echo(f"{load.server:14}{load.num_clients:8}{ttft:>20}{itl:>20}{load.tokens_per_s:10.0f}")
    for busy in report.busy:
        rates = f"{busy.alone_per_s:.0f} tokens/s alone, {busy.beside_per_s:.0f} beside a busy core"
        click.echo(f"{busy.server}: {rates}, {busy.share:.0%}")
    hang_ups = report.hang_ups
    told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(hang_ups.outcomes.items()))
    click.echo(
        f"hang-ups: {told}; {hang_ups.num_held:g} blocks held after; "
        f"PSS {hang_ups.memory_bytes_early / 1e6:.0f} -> {hang_ups.memory_bytes_late / 1e6:.0f} MB"
    )
    for failure in report.failures:
        click.echo(f"MISSED: {failure}")


@click.command()
@click.option("--threads", default=2, show_default=True)
@click.option("--seed", default=1, show_default=True, help="Seed of prompts and hang-ups.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Write every figure here.")
@click.option("--quick", is_flag=True, help="Tiny sizes: shows that everything runs, proves nothing.")
def main(threads: int, seed: int, json_path: Path | None, quick: bool) -> None:
    """Compare Isochrone's server with llama-server on this machine."""
    cpus = sorted(os.sched_getaffinity(0))[:threads]
    say(f"cores {cpus} in {own_group(cpus)}")
    model = model_file("smollm2-135m")
    try:
        kinds = (ours(model, threads), llama_server(find_peers(), model, threads))
    except PeerMissing as missing:
        raise click.ClickException(str(missing)) from missing
    report = asyncio.run(run(kinds, QUICK if quick else Sizes(), seed))
    print_report(report)
    if json_path is not None:
        record = {**asdict(report), "failures": report.failures}
        json_path.write_text(json.dumps(record, indent=2) + "\n")
    sys.exit(bool(report.failures))


if __name__ == "__main__":
    main()
