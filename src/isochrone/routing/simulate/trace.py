"""Recorded traffic as arrivals: read, cut to size, rescaled to a fleet, each with a budget.

Azure: TIMESTAMP, ContextTokens, GeneratedTokens.  Mooncake: timestamp (ms, on a grid of 3 s), input_length,
output_length, hash_ids (blocks of 512 tokens; equal ids are a shared prefix).
"""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Literal, TypeAlias

Sampling: TypeAlias = Literal["opening", "spread"]
"""Which requests of a trace: its first ones, with the bursts that it opens with, or ones from all of it."""
BLOCK_TOKENS = 512
GRID_S = 3.0
"""Mooncake's timestamps stand on this grid; arrivals are spread evenly over it."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request.

    at_s      from the start of the run
    blocks    its prompt as blocks of block_tokens each, by identity; empty: shares nothing
    kind      of its budget, which is also its route
    """

    at_s: float
    num_prompt: int
    num_answer: int
    blocks: tuple[int, ...] = ()
    block_tokens: int = BLOCK_TOKENS
    kind: str = ""
    ttft_s: float | None = None
    itl_s: float | None = None
    total_s: float | None = None


def read_azure(path: Path, num_wanted: int, *, seed: int = 0, sampling: Sampling = "spread") -> list[Arrival]:
    """So many requests: of the whole hour, each as likely as any other, so that its ups and downs stay and its bursts
    are smoothed; or the first ones as they came.
    """
    arrivals: list[Arrival] = []
    start: datetime | None = None
    with path.open(newline="") as lines:
        for row in csv.DictReader(lines):
            at = datetime.fromisoformat(row["TIMESTAMP"][:26])
            start = start or at
            prompt, answer = int(row["ContextTokens"]), int(row["GeneratedTokens"])
            arrivals.append(Arrival((at - start).total_seconds(), max(1, prompt), max(1, answer)))
    if num_wanted >= len(arrivals):
        return arrivals
    if sampling == "opening":
        return arrivals[:num_wanted]
    kept = sorted(random.Random(seed).sample(range(len(arrivals)), num_wanted))
    return [arrivals[index] for index in kept]


def read_mooncake(path: Path, num_wanted: int, *, shorten: int, seed: int = 0) -> list[Arrival]:
    """The first so many requests, because what is shared lies close together; prompts and their blocks shortened by
    the same factor, so that it stays shared.
    """
    draw, arrivals = random.Random(seed), []
    with path.open() as lines:
        for line in lines:
            row = json.loads(line)
            at_s = row["timestamp"] / 1e3 + draw.random() * GRID_S
            prompt = max(1, round(row["input_length"] / shorten))
            blocks = tuple(row["hash_ids"])
            arrivals.append(
                Arrival(at_s, prompt, max(1, row["output_length"]), blocks, BLOCK_TOKENS // shorten)
            )
            if len(arrivals) == num_wanted:
                break
    return sorted(arrivals, key=lambda one: one.at_s)


def at_rate(arrivals: Sequence[Arrival], per_s: float) -> list[Arrival]:
    """The same arrivals, their times stretched so that so many come in a second on average."""
    first, last = arrivals[0].at_s, arrivals[-1].at_s
    factor = (len(arrivals) - 1) / per_s / max(last - first, 1e-9)
    return [replace(one, at_s=(one.at_s - first) * factor) for one in arrivals]


def with_step(arrivals: Sequence[Arrival], *, begin: float, end: float, factor: float) -> list[Arrival]:
    """The same arrivals, those of the stretch from `begin` to `end` (shares of the run) so many times as fast."""
    length_s = arrivals[-1].at_s
    low, high = begin * length_s, end * length_s
    warped = []
    for one in arrivals:
        inside_s = min(max(one.at_s - low, 0.0), high - low)
        warped.append(replace(one, at_s=one.at_s - inside_s * (1.0 - 1.0 / factor)))
    return warped


def with_budgets(arrivals: Sequence[Arrival], seed: int = 0) -> list[Arrival]:
    """Each with a budget: one in five as `voice`, half as `chat`, the rest as `agent-step`.

    A voice's first token is wanted within half a second and an eighth of a millisecond for each token of its prompt.
    """
    draw, budgeted = random.Random(seed), []
    for one in arrivals:
        dice = draw.random()
        if dice < 0.2:
            ttft_s = 0.5 + one.num_prompt / 8000.0
            budgeted.append(replace(one, kind="voice", ttft_s=ttft_s, itl_s=0.1))
        elif dice < 0.7:
            budgeted.append(replace(one, kind="chat", ttft_s=2.0, itl_s=0.2))
        else:
            budgeted.append(replace(one, kind="agent-step", total_s=30.0))
    return budgeted
