"""Rounds of work, timed: fresh starts of the command, prompts and answers of an engine in this process.

A figure is the median of up to NUM_ROUNDS rounds.  None begins, and no decoding goes on, once a figure has taken
FIGURE_S: on a machine whose cores are busy a step can take a hundred times as long, and still there is an end.
"""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from isochrone.config import Settings
from isochrone.engine.engine import Engine
from isochrone.engine.records import Delta, SamplingParams, Submit, error_of
from isochrone.errors import NotFound

NUM_ROUNDS = 3
FIGURE_S = 6.0
"""Time after which a figure is content with what it has."""
NUM_STEPS = 48
"""Decode steps of one round: long against a timer's tick, short against a user's patience."""
NUM_PROMPT_MIN = 8
PROMPT = "In a small town at the foot of the mountains there lived an old clockmaker who one morning found that"


@dataclass(frozen=True, slots=True)
class Start:
    """A fresh process of `complete`: seconds to the first byte of its answer, and its memory then."""

    first_byte_s: float
    pss_bytes: int


def median_of(measure: Callable[[], float]) -> tuple[float, int]:
    """(median, number of rounds it is the median of)."""
    began_at, values = time.perf_counter(), [measure()]
    while len(values) < NUM_ROUNDS and time.perf_counter() - began_at < FIGURE_S:
        values.append(measure())
    return statistics.median(values), len(values)


class Rounds:
    """An engine, asked for random texts."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._random = random.Random(0)
        self._num_asked = 0

    @property
    def context(self) -> int:
        """Most tokens of prompt and answer together."""
        return self._engine.info.num_sequence_tokens_max

    @property
    def num_pages_used(self) -> int:
        """Pages of the KV cache that hold something."""
        return self._engine.stats.num_pages - self._engine.stats.num_pages_free

    def prefill_s(self, num_tokens: int) -> float:
        """Seconds from asking to the first token, for a prompt never seen before."""
        began_at = time.perf_counter()
        self._ask(self._prompt(num_tokens), 1)
        while self._engine.has_work:
            self._step()
        return time.perf_counter() - began_at

    def decode_per_s(self, batch: int, depth: int) -> tuple[float, int]:
        """Tokens a second of all sequences together, once each has its first; and the rounds.

        Each round goes on where the same prompts end, so that only the first of them reads these.
        """
        prompts = [self._prompt(max(depth, NUM_PROMPT_MIN)) for _ in range(batch)]
        return median_of(lambda: self._decode_per_s(prompts))

    def _decode_per_s(self, prompts: list[list[int]]) -> float:
        ids = [self._ask(prompt, NUM_STEPS) for prompt in prompts]
        begun: set[int] = set()
        while len(begun) < len(ids):
            begun |= {delta.id for delta in self._step()}
        began_at, took_s, num_tokens = time.perf_counter(), 0.0, 0
        while not took_s or (self._engine.has_work and took_s < FIGURE_S):
            num_tokens += sum(len(delta.token_ids) for delta in self._step())
            took_s = time.perf_counter() - began_at
        for id in ids:
            self._engine.cancel(id)
        while self._engine.has_work:
            self._step()
        return num_tokens / took_s

    def _prompt(self, num_tokens: int) -> list[int]:
        return [self._random.randrange(self._engine.info.vocab_size) for _ in range(num_tokens)]

    def _ask(self, prompt: list[int], max_tokens: int) -> int:
        self._num_asked += 1
        sampling = SamplingParams(temperature=0.0, ignore_eos=True)
        self._engine.submit(
            Submit(
                id=self._num_asked, prompt_ids=prompt, max_tokens=max_tokens, sampling=sampling,
                arrived_at=time.monotonic(),
            )
        )  # fmt: skip
        return self._num_asked

    def _step(self) -> list[Delta]:
        output = self._engine.step(time.monotonic())
        for refusal in output.refusals:
            raise error_of(refusal)
        return output.deltas


def start(path: Path, settings: Settings, home: str) -> Start:
    """Start `complete` with its caches under `home`.  Raises NotFound when it does not answer."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ISOCHRONE_")}
    environment |= {"ISOCHRONE_HOME": home, "ISOCHRONE_WEIGHTS": settings.weights}
    environment |= {"ISOCHRONE_KV_TYPE": settings.kv_type}
    for key, value in (("ISA", settings.isa), ("THREADS", settings.threads), ("PACK", settings.pack)):
        if value is not None:
            environment[f"ISOCHRONE_{key}"] = str(value)
    command = [sys.executable, "-m", "isochrone.cli", "complete", str(path.absolute()), PROMPT, "--max-tokens", "8"]
    began_at = time.perf_counter()
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
    ) as process:
        assert process.stdout is not None
        first = process.stdout.read(1)
        begun = Start(time.perf_counter() - began_at, pss_bytes(process.pid))
        process.stdout.read()
    if not first or process.returncode:
        raise NotFound("A fresh start gave no answer.", fix=f"See what it says: {' '.join(command)}")
    return begun


def pss_bytes(process_id: int) -> int:
    """A process's memory, pages shared with others counted in part; 0 when it is gone."""
    try:
        lines = Path(f"/proc/{process_id}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
