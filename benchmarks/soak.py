"""Many small requests of every kind, some of whose callers leave: what is still held afterwards, and how memory grows.

    python -m benchmarks.soak [--requests 20000] [--minutes 30] [--json FILE]

Against `isochrone up` with the real model, as a user starts it, in a new home.  Resident memory is that of all its
processes, looked at after every 20 requests; its slope is that of a line through the means of 25 stretches of the
second half, and its interval is Student's.  Blocks, tasks, threads and file descriptors are compared with those before.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import click

from .http_client import get, post
from .servers import HOST, Server, ours
from .vs_peers import model_file, say

SLOPE_BYTES_MAX = 100.0
NUM_AT_ONCE, NUM_BETWEEN_LOOKS, NUM_STRETCHES = 8, 20, 25
STUDENT_95 = 2.069
"""Two-sided, for 23 degrees of freedom."""
IDLE_S_MAX = 60.0
REFUSALS = frozenset({429, 503})
TOPICS = ("rain", "bread", "a lighthouse", "iron", "the moon", "tea", "a violin", "snow", "an owl", "glass")


@dataclass(frozen=True, slots=True)
class Ask:
    """One request.  leaves_after: pieces of the answer after which the caller hangs up; None: never"""

    kind: str
    path: str
    body: bytes
    leaves_after: int | None = None
    status: int = 200


@dataclass(frozen=True, slots=True)
class Held:
    """What a server holds while nobody asks it anything."""

    num_blocks_held: int
    num_in_flight: int
    num_waiting: int
    reserved_bytes: int
    num_tasks: int
    num_descriptors: int
    num_threads: int


@dataclass(slots=True)
class Report:
    """Figures of one run.  problems: what was answered otherwise than it had to be, by kind"""

    num_requests: int = 0
    took_s: float = 0.0
    by_kind: Counter[str] = field(default_factory=Counter)
    problems: Counter[str] = field(default_factory=Counter)
    num_refused: int = 0
    num_hang_ups_seen: int = 0
    looks: list[tuple[int, int]] = field(default_factory=list)
    slope_bytes: float = 0.0
    slope_bytes_high: float = 0.0
    before: Held | None = None
    after: Held | None = None

    @property
    def faults(self) -> list[str]:
        """What must not be."""
        found = [f"{kind}: {number} times" for kind, number in self.problems.items()]
        if self.slope_bytes_high >= SLOPE_BYTES_MAX:
            found.append(f"memory may grow by {self.slope_bytes_high:.0f} bytes a request")
        assert self.before is not None and self.after is not None
        was, now = asdict(self.before), asdict(self.after)
        return found + [f"{name} was {was[name]} and is {now[name]}" for name in was if now[name] > was[name]]

    def to_json(self) -> str:
        """Every figure."""
        figures = {one.name: getattr(self, one.name) for one in fields(self)}
        held = {name: figures[name] and asdict(figures[name]) for name in ("before", "after")}
        return json.dumps(figures | held, indent=1)


def slope(looks: Sequence[tuple[int, int]]) -> tuple[float, float]:
    """Bytes a request over the second half of (number of requests, bytes), and the upper end of its 95 % interval."""
    late = looks[len(looks) // 2 :]
    if len(late) < 2 * NUM_STRETCHES:
        raise ValueError(f"{len(late)} looks at memory in the second half are too few; {2 * NUM_STRETCHES} are needed.")
    edges = [round(len(late) * i / NUM_STRETCHES) for i in range(NUM_STRETCHES + 1)]
    stretches = [late[low:high] for low, high in pairwise(edges)]
    x = [statistics.fmean(at for at, _ in stretch) for stretch in stretches]
    y = [statistics.fmean(size for _, size in stretch) for stretch in stretches]
    line = statistics.linear_regression(x, y)
    rest = sum((b - line.intercept - line.slope * a) ** 2 for a, b in zip(x, y, strict=True))
    spread = sum((a - statistics.fmean(x)) ** 2 for a in x)
    error = (rest / (NUM_STRETCHES - 2) / spread) ** 0.5
    return line.slope, line.slope + STUDENT_95 * error


def ask(index: int, dice: random.Random) -> Ask:
    """The next request, of one of these kinds."""
    kinds = (_chat, _completion, _tool, _schema, _responses, _messages, _ollama, _hang_up, _hang_up, _broken)
    return dice.choice(kinds)(index, dice)


def _turns(index: int, dice: random.Random) -> list[dict[str, str]]:
    """Most begin alike, some are like one before, none is long."""
    return [{"role": "user", "content": f"{index % 5000}: say a word about {dice.choice(TOPICS)}"}]


def _made(kind: str, path: str, body: dict[str, Any], **more: Any) -> Ask:
    return Ask(kind, path, json.dumps({"model": "bench"} | body).encode(), **more)


def _chat(index: int, dice: random.Random) -> Ask:
    is_stream = dice.random() < 0.5
    body = {"messages": _turns(index, dice), "max_tokens": dice.randrange(1, 4), "stream": is_stream}
    if dice.random() < 0.3:
        body |= {"logprobs": True, "top_logprobs": 3, "n": 2}
    return _made("chat, streamed" if is_stream else "chat", "/v1/chat/completions", body)


def _completion(index: int, dice: random.Random) -> Ask:
    body = {"prompt": f"{index} {dice.choice(TOPICS)} is", "max_tokens": dice.randrange(1, 4), "seed": index}
    body["stream"] = is_stream = dice.random() < 0.5
    return _made("completion, streamed" if is_stream else "completion", "/v1/completions", body)


def _tool(index: int, dice: random.Random) -> Ask:
    """A call that must come, mostly of forced tokens; now and then a tool never seen before."""
    name = f"look_{index if dice.random() < 0.1 else index % 7}"
    schema = {
        "type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"], "additionalProperties": False,
    }  # fmt: skip
    tool = {"type": "function", "function": {"name": name, "parameters": schema}}
    body = {"messages": _turns(index, dice), "max_tokens": 40, "tools": [tool], "tool_choice": "required"}
    return _made("tool", "/v1/chat/completions", body | {"stream": dice.random() < 0.5})


def _schema(index: int, dice: random.Random) -> Ask:
    number = index if dice.random() < 0.1 else index % 11
    schema = {
        "type": "object", "properties": {f"f{number}": {"enum": ["yes", "no"]}}, "required": [f"f{number}"],
        "additionalProperties": False,
    }  # fmt: skip
    form = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema, "strict": True}}
    body = {"messages": _turns(index, dice), "max_tokens": 16, "response_format": form}
    return _made("schema", "/v1/chat/completions", body)


def _responses(index: int, dice: random.Random) -> Ask:
    body = {"input": _turns(index, dice), "max_output_tokens": 16, "stream": dice.random() < 0.5}
    return _made("responses", "/v1/responses", body | {"store": dice.random() < 0.2})


def _messages(index: int, dice: random.Random) -> Ask:
    body = {"messages": _turns(index, dice), "max_tokens": 2, "stream": dice.random() < 0.5}
    return _made("messages", "/v1/messages", body)


def _ollama(index: int, dice: random.Random) -> Ask:
    body = {"messages": _turns(index, dice), "options": {"num_predict": 2}, "stream": dice.random() < 0.5}
    return _made("ollama", "/api/chat", body)


def _hang_up(index: int, dice: random.Random) -> Ask:
    """Leaves before the answer begins, or in its middle; one that stayed would wait for 300 tokens."""
    choices: list[tuple[str, dict[str, Any]]] = [
        ("/v1/chat/completions", {"messages": _turns(index, dice), "max_tokens": 300}),
        ("/v1/completions", {"prompt": f"{index} " + "word " * dice.randrange(1, 90), "max_tokens": 300}),
        ("/v1/messages", {"messages": _turns(index, dice), "max_tokens": 300}),
        ("/v1/responses", {"input": "Count.", "max_output_tokens": 300}),
        ("/api/chat", {"messages": _turns(index, dice), "options": {"num_predict": 300}}),
    ]  # fmt: skip
    path, body = dice.choice(choices)
    is_stream = dice.random() < 0.7
    leaves_after = dice.randrange(4) if is_stream else 0
    return _made("hang-up", path, body | {"stream": is_stream}, leaves_after=leaves_after)


def _broken(index: int, dice: random.Random) -> Ask:
    path = dice.choice(["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/api/chat"])
    body = dice.choice([b"{", b'{"model":"bench","messages":5,"prompt":{},"input":7}', b"[" * 4000, b"\xff"])
    return Ask("broken", path, body, status=400)


async def soak(server: Server, num_requests: int, until: float, report: Report) -> None:
    """Ask until so many are answered or the time is over, looking at memory on the way."""
    numbers = iter(range(num_requests))
    began_at = time.monotonic()

    async def caller() -> None:
        for index in numbers:
            if time.monotonic() > until:
                return
            one = ask(index, random.Random(index))
            report.by_kind[one.kind] += 1
            await _one(server, one, report)
            report.num_requests += 1
            if report.num_requests % NUM_BETWEEN_LOOKS == 0:
                report.looks.append((report.num_requests, server.resident_bytes()))
            if report.num_requests % 1000 == 0:
                say(f"{report.num_requests} requests, {report.looks[-1][1] / 1e6:.1f} MB")

    async with asyncio.TaskGroup() as callers:
        for _ in range(NUM_AT_ONCE):
            callers.create_task(caller())
    report.took_s += time.monotonic() - began_at


async def _one(server: Server, one: Ask, report: Report) -> None:
    try:
        status, _ = await post(HOST, server.port, one.path, one.body, leaves_after=one.leaves_after)
    except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as error:
        report.problems[f"{one.kind}: {type(error).__name__}"] += 1
        return
    if status in REFUSALS:
        report.num_refused += 1
    elif one.leaves_after is None and status != one.status:
        report.problems[f"{one.kind}: status {status}"] += 1


async def held(server: Server) -> Held:
    """What is held once nothing runs any more, or after a minute."""
    until = time.monotonic() + IDLE_S_MAX
    while True:
        await get(HOST, server.port, "/health")
        await post(HOST, server.port, "/v1/completions", b'{"model":"bench","prompt":"a","max_tokens":1}')
        now = await _held(server)
        if now.num_blocks_held == now.num_in_flight == now.num_waiting == 0 or time.monotonic() > until:
            return await _held(server)
        await asyncio.sleep(0.2)


async def _held(server: Server) -> Held:
    await asyncio.sleep(1.0)  # connections just closed are still being taken down
    gauges = await server.gauges()
    num_descriptors, num_threads = server.num_open()
    return Held(
        int(gauges['isochrone_kv_blocks{state="held"}']), int(gauges["isochrone_requests_in_flight"]),
        int(gauges["vllm:num_requests_waiting"]), int(gauges["isochrone_reserved_bytes"]),
        int(gauges["isochrone_tasks"]), num_descriptors, num_threads,
    )  # fmt: skip


async def run(num_requests: int, minutes: float, threads: int, kv_memory: str) -> Report:
    """Start, warm, soak, and look at what is left."""
    model, report = model_file("smollm2-135m"), Report()
    with tempfile.TemporaryDirectory() as home:
        os.environ["ISOCHRONE_HOME"] = home
        with Server(ours(model, threads, kv_memory), Path(home) / "server.log") as server:
            await server.wait_until_ready()
            await soak(server, 100, time.monotonic() + 60, Report())  # every code path once: imports, threads
            report.before = await held(server)
            await soak(server, num_requests, time.monotonic() + 60 * minutes, report)
            report.after = await held(server)
            report.num_hang_ups_seen = int((await server.gauges())["isochrone_hang_ups_total"])
    report.slope_bytes, report.slope_bytes_high = slope(report.looks)
    return report


@click.command(help=__doc__)
@click.option("--requests", "num_requests", default=20_000, show_default=True)
@click.option("--minutes", default=60.0, show_default=True, help="End after so long, however many were answered.")
@click.option("--threads", default=2, show_default=True)
@click.option("--kv-memory", default="96MB", show_default=True, help="Small: full long before the middle.")
@click.option("--json", "json_path", type=click.Path(), help="Write the figures to this file.")
def main(num_requests: int, minutes: float, threads: int, kv_memory: str, json_path: str | None) -> None:
    """Exit status 1 when something is left, grew, or was answered wrongly."""
    report = asyncio.run(run(num_requests, minutes, threads, kv_memory))
    kinds = ", ".join(f"{kind} {number}" for kind, number in sorted(report.by_kind.items()))
    print(f"{report.num_requests} requests in {report.took_s:.0f} s ({kinds})")
    print(f"refused for want of room {report.num_refused}, hang-ups seen by the server {report.num_hang_ups_seen}")
    first, last = report.looks[len(report.looks) // 2][1], report.looks[-1][1]
    print(f"resident memory at the middle {first / 1e6:.1f} MB, at the end {last / 1e6:.1f} MB")
    slopes = f"{report.slope_bytes:.1f} bytes a request, 95 % below {report.slope_bytes_high:.1f}"
    print(f"slope over the second half {slopes}")
    print(f"before {report.before}\nafter  {report.after}")
    if json_path:
        Path(json_path).write_text(report.to_json())
    for fault in report.faults:
        print(f"MISSED  {fault}")
    raise SystemExit(bool(report.faults))


if __name__ == "__main__":
    main()
