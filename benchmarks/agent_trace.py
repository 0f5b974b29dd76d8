"""An agent's task at Isochrone and at llama-server: twenty calls, each waiting for the last.

    ISOCHRONE_DATA=DIRECTORY setsid -w python -m benchmarks.agent_trace [--tasks 1] [--json FILE] [--quick]

Tasks are those of `agent_tasks`.  Isochrone runs as `isochrone up`, then with prefix reuse, forced tokens and guesses
switched off in turn; its texts must not change.  llama-server runs with one slot, its prompt cache with reuse of moved
chunks, and its grammar, once plain and once guessing from n-grams: the better of the two is what counts.  It ignores
`tools` for a model whose template does not name them, so it gets them in words, and its answers are held to a schema.
One server runs at a time, warmed by one task before those that are timed.  Exit status 1 when an aim is missed.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click

from .agent_server import SWITCHES
from .agent_tasks import Call, Function, make_task, read_functions
from .engines import own_group
from .peers import PeerMissing, Peers, find_peers
from .servers import HOST, KV_MEMORY, Server, ServerKind, ours
from .vs_peers import model_file, say

RATIO_MIN = 3.0
CALL_S_MAX = 120.0
NUM_CALLS, NUM_CALLS_QUICK = 20, 4


@dataclass(frozen=True, slots=True)
class Done:
    """One call that was answered."""

    kind: str
    seconds: float
    text: str
    num_prompt: int
    num_cached: int
    num_answer: int
    num_forced: int
    num_drafted: int
    num_accepted: int


@dataclass(slots=True)
class Run:
    """One server on all tasks."""

    server: str
    num_tasks: int
    calls: list[Done] = field(default_factory=list)

    def task_s(self, kind: str = "") -> float:
        """Seconds that one task took, or its calls of one kind."""
        return sum(call.seconds for call in self.calls if kind in ("", call.kind)) / self.num_tasks

    @property
    def tasks_per_min(self) -> float:
        return 60.0 / self.task_s()

    def total(self, name: str) -> int:
        """Sum of one count over all calls."""
        return sum(getattr(call, name) for call in self.calls)


def kinds_of(model: Path, threads: int) -> list[ServerKind]:
    """Ours, whole and with one part off."""
    found = [ours(model, threads)]
    for switch in SWITCHES:
        command = (
            sys.executable, "-m", "benchmarks.agent_server", str(model), "--port", "{port}", "--threads", str(threads),
            "--kv-memory", KV_MEMORY, "--off", switch,
        )  # fmt: skip
        found.append(ServerKind(f"Isochrone, {switch} off", "bench", command, has_metrics=True))
    return found


def llama_kinds(peers: Peers, model: Path, threads: int) -> list[ServerKind]:
    """llama-server for one agent, plain and with guesses from the text so far."""
    command = (
        str(peers.tool("llama-server")), "-m", str(model), "-t", str(threads), "-np", "1", "-c", "8192", "--jinja",
        "--cache-prompt", "--cache-reuse", "32", "--host", HOST, "--port", "{port}",
    )  # fmt: skip
    guessing = (*command, "--spec-type", "ngram-simple", "--spec-ngram-simple-size-n", "4",
                "--spec-ngram-simple-size-m", "8")  # fmt: skip
    return [
        ServerKind("llama-server", "bench", command, has_metrics=False),
        ServerKind("llama-server, n-grams", "bench", guessing, has_metrics=False),
    ]


def ask(port: int, call: Call, *, knows_tools: bool) -> Done:
    """One call over HTTP, timed as its caller sees it.  Raises RuntimeError when it is not answered with 200."""
    connection = http.client.HTTPConnection(HOST, port, timeout=CALL_S_MAX)
    body = json.dumps(call.body() if knows_tools else call.body_without_tools())
    began_at = time.perf_counter()
    connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    answer = response.read()
    seconds = time.perf_counter() - began_at
    connection.close()
    if response.status != 200:
        raise RuntimeError(f"a call was answered with {response.status}: {answer[:500]!r}")
    return _done(call.kind, seconds, json.loads(answer))


def _done(kind: str, seconds: float, answer: dict[str, Any]) -> Done:
    """Both servers' accounts: `usage.timing` is ours, `timings` llama-server's."""
    message, usage, theirs = answer["choices"][0]["message"], answer["usage"], answer.get("timings") or {}
    timing = usage.get("timing") or {}
    called = [made["function"] for made in message.get("tool_calls") or ()]
    return Done(
        kind, seconds, json.dumps(called) if called else message["content"] or "",
        usage["prompt_tokens"], (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0,
        usage["completion_tokens"], timing.get("forced_tokens", 0),
        timing.get("drafted_tokens") or theirs.get("draft_n", 0),
        timing.get("accepted_tokens") or theirs.get("draft_n_accepted", 0),
    )  # fmt: skip


def measure(kind: ServerKind, functions: Sequence[Function], num_tasks: int, num_calls: int, log: Path) -> Run:
    """Start a server, warm it with a task of its own, and time the others."""
    run = Run(kind.name, num_tasks)
    with Server(kind, log) as server:
        asyncio.run(server.wait_until_ready())
        for call in make_task(functions, 0, NUM_CALLS_QUICK):
            ask(server.port, call, knows_tools=kind.has_metrics)
        for seed in range(1, num_tasks + 1):
            for call in make_task(functions, seed, num_calls):
                run.calls.append(ask(server.port, call, knows_tools=kind.has_metrics))
    say(f"{kind.name}: {run.tasks_per_min:.2f} tasks/min")
    return run


def failures_of(runs: Sequence[Run]) -> list[str]:
    """What must not be: another text with a part switched off; and the aim."""
    mine = [run for run in runs if run.server.startswith("Isochrone")]
    theirs = [run for run in runs if not run.server.startswith("Isochrone")]
    found = []
    for run in mine[1:]:
        changed = [at for at, (a, b) in enumerate(zip(mine[0].calls, run.calls, strict=True)) if a.text != b.text]
        if changed:
            found.append(f"{run.server}: the text of calls {changed} is another")
    if theirs:
        ratio = mine[0].tasks_per_min / max(run.tasks_per_min for run in theirs)
        if not ratio >= RATIO_MIN:
            found.append(f"{ratio:.2f}x llama-server's tasks a minute, below {RATIO_MIN}x")
    return found


def print_report(runs: Sequence[Run]) -> None:
    """The table, as people read it."""
    click.echo(
        f"{'server':24}{'tasks/min':>10}{'task':>9}{'edits':>9}{'actions':>9}{'prompt / cached':>18}"
        f"{'answer':>8}{'forced':>8}{'accepted':>14}{'ours is':>9}"
    )
    for run in runs:
        click.echo(
            f"{run.server:24}{run.tasks_per_min:10.2f}{run.task_s():7.2f} s{run.task_s('edit'):7.2f} s"
            f"{run.task_s('action'):7.2f} s{run.total('num_prompt'):9} /{run.total('num_cached'):7}"
            f"{run.total('num_answer'):8}{run.total('num_forced'):8}"
            f"{run.total('num_accepted'):6} of {run.total('num_drafted'):4}"
            f"{runs[0].tasks_per_min / run.tasks_per_min:8.2f}x"
        )


@click.command()
@click.option("--threads", default=2, show_default=True)
@click.option("--tasks", "num_tasks", default=1, show_default=True, help="Tasks that are timed.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Write every figure here.")
@click.option("--quick", is_flag=True, help="Four calls, Isochrone alone: shows that everything runs, proves nothing.")
def main(threads: int, num_tasks: int, json_path: Path | None, quick: bool) -> None:
    """Compare Isochrone with llama-server on an agent's tasks."""
    cpus = sorted(os.sched_getaffinity(0))[:threads]
    if not quick:
        say(f"cores {cpus} in {own_group(cpus)}")
    model = model_file("smollm2-135m")
    kinds = kinds_of(model, threads)
    if not quick:
        try:
            kinds += llama_kinds(find_peers(), model, threads)
        except PeerMissing as missing:
            raise click.ClickException(str(missing)) from missing
    functions, num_calls = read_functions(), NUM_CALLS_QUICK if quick else NUM_CALLS
    with contextlib.ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        runs = [measure(kind, functions, num_tasks, num_calls, logs / f"{at}.log") for at, kind in enumerate(kinds)]
    print_report(runs)
    failures = failures_of(runs)
    for failure in failures:
        click.echo(f"MISSED: {failure}")
    if json_path is not None:
        json_path.write_text(json.dumps({"runs": [asdict(run) for run in runs], "failures": failures}, indent=2) + "\n")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
