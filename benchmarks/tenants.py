"""Can a tenant hear by the clock what another has asked?  Time to first token on the real model, from outside.

    python -m benchmarks.tenants [--trials 300] [--json FILE]

In each trial one key's owner asks a prompt or another one as long; then the prober asks the prompt and takes the time.
The figure is the area under the ROC curve of that time as a test for whether the prompt had been asked (0.5: a coin,
1: certain, read either way round), with a bootstrap interval: with a key of its own, and as a control with the same.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from .http_client import post
from .servers import HOST, Server, ours
from .vs_peers import model_file, say

AUC_ACROSS_MAX, AUC_WITHIN_MIN = 0.55, 0.95
NUM_WORDS, NUM_BOOTSTRAPS = 96, 1000
WORDS = "rain bread iron moon tea snow owl glass river stone lamp fire road salt wood wind field horse".split()


@dataclass(frozen=True, slots=True)
class Told:
    """asked_s, other_s  seconds to the first token after the prompt, or another, had been asked"""

    asked_s: list[float]
    other_s: list[float]

    @property
    def auc(self) -> float:
        """How often the one is shorter than the other, ties by half; 1 less that if that is more."""
        share = _share_below(self.asked_s, self.other_s)
        return max(share, 1 - share)

    def interval(self, dice: random.Random) -> tuple[float, float]:
        """95 % of the shares of samples drawn from these, not turned round."""
        shares = sorted(
            _share_below(
                dice.choices(self.asked_s, k=len(self.asked_s)), dice.choices(self.other_s, k=len(self.other_s))
            )
            for _ in range(NUM_BOOTSTRAPS)
        )
        return shares[int(0.025 * NUM_BOOTSTRAPS)], shares[int(0.975 * NUM_BOOTSTRAPS)]


def _share_below(low: Sequence[float], high: Sequence[float]) -> float:
    ordered = sorted([(value, 0) for value in low] + [(value, 1) for value in high])
    num_low, num_below = 0, 0
    for _, kind in ordered:  # no two times of a clock of nanoseconds are alike
        num_low += kind == 0
        num_below += num_low if kind == 1 else 0
    return num_below / (len(low) * len(high))


async def listen(server: Server, victim: str, prober: str, num_trials: int, dice: random.Random) -> Told:
    """Trials of both kinds, in random order."""
    kinds = [True, False] * num_trials
    dice.shuffle(kinds)
    told = Told([], [])
    for number, was_asked in enumerate(kinds):
        secret, decoy = (" ".join(dice.choices(WORDS, k=NUM_WORDS)) for _ in range(2))
        await _ask(server, victim, secret if was_asked else decoy)
        (told.asked_s if was_asked else told.other_s).append(await _ask(server, prober, secret))
        if number % 100 == 99:
            say(f"{number + 1} of {len(kinds)} trials")
    return told


async def _ask(server: Server, key: str, prompt: str) -> float:
    """Seconds until the one token is there."""
    body = json.dumps({"model": "bench", "prompt": prompt, "max_tokens": 1, "temperature": 0}).encode()
    began_at = time.perf_counter()
    headers = {"authorization": f"Bearer {key}"}
    status, said = await post(HOST, server.port, "/v1/completions", body, headers=headers)
    if status != 200:
        raise RuntimeError(f"a trial was answered with {status}: {said[:300]}")
    return time.perf_counter() - began_at


def make_key(name: str) -> str:
    """A new key in the home that the environment names."""
    command = [sys.executable, "-c", "from isochrone.cli import main; main()", "keys", "add", name, "--json"]
    return str(json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["key"])


async def run(num_trials: int, threads: int) -> tuple[Told, Told]:
    """(across tenants, within one)"""
    model, dice = model_file("smollm2-135m"), random.Random(7)
    with tempfile.TemporaryDirectory() as home:
        os.environ["ISOCHRONE_HOME"] = home
        victim, prober = make_key("victim"), make_key("prober")
        with Server(ours(model, threads), Path(home) / "server.log") as server:
            await server.wait_until_ready()
            await listen(server, victim, prober, 5, dice)
            across = await listen(server, victim, prober, num_trials, dice)
            return across, await listen(server, victim, victim, max(20, num_trials // 4), dice)


@click.command(help=__doc__)
@click.option("--trials", "num_trials", default=300, show_default=True, help="Of each kind; a quarter for the control.")
@click.option("--threads", default=2, show_default=True)
@click.option("--json", "json_path", type=click.Path(), help="Write every time to this file.")
def main(num_trials: int, threads: int, json_path: str | None) -> None:
    """Exit status 1 when the clock tells too much, or the control too little."""
    across, within = asyncio.run(run(num_trials, threads))
    for name, told in (("across tenants", across), ("within one", within)):
        low, high = told.interval(random.Random(1))
        print(
            f"{name:15} AUC {told.auc:.3f} (95 % {low:.3f} to {high:.3f}) of {len(told.asked_s)} + {len(told.other_s)}"
        )
    if json_path:
        Path(json_path).write_text(json.dumps({"across": asdict(across), "within": asdict(within)}))
    raise SystemExit(across.auc > AUC_ACROSS_MAX or within.auc < AUC_WITHIN_MIN)


if __name__ == "__main__":
    main()
