"""What is measured at a server: load by streaming clients, clients who leave, and a busy core beside it."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from .engines import fresh_prompt
from .http_client import Answer, stream_completion
from .servers import HOST, Server

MEMORY_GROWTH_MAX = 0.05
SETTLE_S = 5.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is asked."""

    num_prompt: int = 90
    num_answer: int = 64
    num_requests_each: int = 3
    num_requests_min: int = 8
    hang_up_s: float = 60.0
    num_hang_up_clients: int = 64
    num_busy_answer: int = 256


QUICK = Sizes(num_prompt=20, num_answer=8, num_requests_each=1, num_requests_min=2, hang_up_s=3.0,
              num_hang_up_clients=8, num_busy_answer=16)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Load:
    """What clients of one server saw; times in seconds."""

    server: str
    num_clients: int
    num_requests: int
    ttft_s_p50: float
    ttft_s_p99: float
    itl_s_p50: float
    itl_s_p99: float
    tokens_per_s: float
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HangUps:
    """What a minute of clients who leave did to the server."""

    outcomes: dict[str, int]
    problems: tuple[str, ...]
    num_held: float
    num_blocks_missing: float
    memory_bytes_early: int
    memory_bytes_late: int

    @property
    def failures(self) -> list[str]:
        """Every aim that was missed, in words."""
        found = [f"an error that is no typed refusal: {problem}" for problem in self.problems]
        if self.num_held or self.num_blocks_missing:
            found.append(f"{self.num_held:g} blocks are still held, {self.num_blocks_missing:g} are lost")
        if self.memory_bytes_late > (1.0 + MEMORY_GROWTH_MAX) * self.memory_bytes_early:
            found.append(f"memory grew from {self.memory_bytes_early} to {self.memory_bytes_late} bytes")
        return found


@dataclass(frozen=True, slots=True)
class Busy:
    """One stream's rate, alone and beside a process that wants one of the cores."""

    server: str
    alone_per_s: float
    beside_per_s: float

    @property
    def share(self) -> float:
        """What is kept of the rate."""
        return self.beside_per_s / self.alone_per_s


def completion(server: Server, source: random.Random, sizes: Sizes, num_answer: int) -> dict[str, object]:
    """A request whose prompt no cache has seen."""
    return {
        "model": server.kind.model_id,
        "prompt": fresh_prompt(source, sizes.num_prompt),
        "max_tokens": num_answer,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def measure_load(server: Server, num_clients: int, source: random.Random, sizes: Sizes) -> Load:
    """A closed loop: each client sends its next request when it has the last token of the one before."""
    num_requests = max(sizes.num_requests_min, num_clients * sizes.num_requests_each)
    bodies = [completion(server, source, sizes, sizes.num_answer) for _ in range(num_requests)]
    answers: list[Answer] = []

    async def client() -> None:
        while bodies:
            answers.append(await stream_completion(HOST, server.port, bodies.pop()))

    began_at = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(num_clients):
            tasks.create_task(client())
    seconds = time.monotonic() - began_at
    return summarise(server.kind.name, num_clients, answers, seconds, sizes.num_answer)


def summarise(name: str, num_clients: int, answers: Sequence[Answer], seconds: float, num_answer: int) -> Load:
    """Quantiles over requests (TTFT) and over all gaps (ITL)."""
    problems = [
        answer.problem or f"{answer.num_tokens} tokens of {num_answer}"
        for answer in answers
        if not answer.is_complete or answer.num_tokens != num_answer
    ]
    ttfts = sorted(answer.ttft_s for answer in answers if answer.instants)
    gaps = sorted(gap for answer in answers for gap in answer.gaps_s)
    return Load(
        name, num_clients, len(answers), quantile(ttfts, 0.50), quantile(ttfts, 0.99), quantile(gaps, 0.50),
        quantile(gaps, 0.99), sum(answer.num_tokens for answer in answers) / seconds, tuple(problems),
    )  # fmt: skip


def quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that this share does not exceed; NaN of nothing."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


async def measure_hang_ups(server: Server, source: random.Random, sizes: Sizes) -> HangUps:
    """Clients that leave at a random token, half of the time, until the time is up; then look at the books."""
    outcomes: Counter[str] = Counter()
    problems: list[str] = []
    began_at = time.monotonic()

    async def client() -> None:
        while time.monotonic() - began_at < sizes.hang_up_s:
            leaves = source.randrange(sizes.num_answer) if source.random() < 0.5 else None
            body = completion(server, source, sizes, sizes.num_answer)
            answer = await stream_completion(HOST, server.port, body, hang_up_after=leaves)
            outcomes[outcome := classify(answer)] += 1
            if outcome == "failed":
                problems.append(answer.problem or f"status {answer.status}")

    async with asyncio.TaskGroup() as tasks:
        for _ in range(sizes.num_hang_up_clients):
            tasks.create_task(client())
        await asyncio.sleep(sizes.hang_up_s / 3)
        early = server.memory_bytes()
    late = server.memory_bytes()
    held, missing = await settle(server)
    return HangUps(dict(outcomes), tuple(sorted(set(problems))), held, missing, early, late)


def classify(answer: Answer) -> str:
    """How a request ended: answered, left, refused (typed), or failed."""
    if answer.is_hung_up:
        return "left"
    if answer.is_complete:
        return "answered"
    return "refused" if answer.is_refusal else "failed"


async def settle(server: Server) -> tuple[float, float]:
    """(blocks still held, blocks that nobody accounts for) once the server had a moment to clean up."""
    until = time.monotonic() + SETTLE_S
    total = sum(await blocks(server))
    held = missing = total
    while time.monotonic() < until:
        held, cached, free = await blocks(server)
        missing = total - cached - free - held
        if not held and not missing:
            break
        await asyncio.sleep(0.1)
    return held, missing


async def blocks(server: Server) -> tuple[float, float, float]:
    """(held, cached, free) blocks of the KV cache."""
    gauges = await server.gauges()
    held, cached, free = (gauges[f'isochrone_kv_blocks{{state="{state}"}}'] for state in ("held", "cached", "free"))
    return held, cached, free


async def measure_busy(server: Server, source: random.Random, sizes: Sizes) -> Busy:
    """One long stream alone, then beside a process that never sleeps and is pinned to the last core."""
    alone_per_s = await stream_rate(server, source, sizes)
    core = max(os.sched_getaffinity(0))
    busy = subprocess.Popen([sys.executable, "-c", f"import os; os.sched_setaffinity(0, {{{core}}})\nwhile True: pass"])
    try:
        await asyncio.sleep(0.5)
        beside_per_s = await stream_rate(server, source, sizes)
    finally:
        busy.kill()
        busy.wait()
    return Busy(server.kind.name, alone_per_s, beside_per_s)


async def stream_rate(server: Server, source: random.Random, sizes: Sizes) -> float:
    """Tokens per second of one stream after its first token; the median of three."""
    rates = []
    for _ in range(3):
        body = completion(server, source, sizes, sizes.num_busy_answer)
        answer = await stream_completion(HOST, server.port, body)
        if not answer.is_complete:
            raise RuntimeError(f"{server.kind.name}: {answer.problem}")
        rates.append((answer.num_tokens - 1) / (answer.instants[-1] - answer.instants[0]))
    return sorted(rates)[1]
