"""The engines under comparison as processes that take turns: while one is measured, all others are stopped."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from .gates import BATCH_16, DECODE_0, DECODE_2000, DEPTH, LLAMA, NUM_BATCH, OPENVINO, OURS, PREFILL_512, PREFILL_2048
from .peers import Peers

ROOT = Path(__file__).parents[1]
NUM_DECODE_TOKENS, NUM_BATCH_PROMPT = 32, 16
FIRST_TOKEN, LAST_TOKEN = 1000, 40000
"""Prompts are drawn from here: ordinary tokens in every vocabulary under comparison."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One engine in one setting."""

    engine: str
    setting: str
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Lengths:
    """How much is measured; the usual lengths unless a quick look is wanted."""

    short: int = 512
    long: int = 2048
    depth: int = DEPTH
    num_tokens: int = NUM_DECODE_TOKENS


def variants(peers: Peers, model: Path, threads: int, *, with_openvino: bool) -> list[Variant]:
    """Ours, and each peer in the settings from which its best is chosen."""
    python, theirs = sys.executable, str(peers.interpreter())
    common = (str(model), "--threads", str(threads))
    found = [Variant(OURS, "", (python, "-m", "benchmarks.worker_isochrone", *common))]
    for flash in ("on", "off"):
        command = (theirs, "-m", "benchmarks.worker_llama", *common, "--flash-attention", flash)
        found.append(Variant(LLAMA, f"flash attention {flash}", command))
    for backend in ("PA", "SDPA") if with_openvino else ():
        command = (theirs, "-m", "benchmarks.worker_openvino", *common, "--backend", backend)
        found.append(Variant(OPENVINO, f"backend {backend}", command))
    return found


class Process:
    """A worker process: it runs only while it is asked something."""

    def __init__(self, variant: Variant, threads: int) -> None:
        self.variant = variant
        paths = [str(ROOT), str(ROOT / "src")] if variant.engine == OURS else [str(ROOT)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": str(threads)}
        self._process = subprocess.Popen(
            variant.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, cwd=ROOT, text=True
        )
        self.about = self._answer()["about"]
        self._process.send_signal(signal.SIGSTOP)

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()

    def ask(self, **command: object) -> Any:
        """Send a command, wake the worker, take its answer, stop it again."""
        assert self._process.stdin is not None
        self._process.send_signal(signal.SIGCONT)
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        answer = self._answer()["value"]
        self._process.send_signal(signal.SIGSTOP)
        return answer

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            status = self._process.wait()
            raise RuntimeError(f"{self.variant.engine} ({self.variant.setting}) ended with status {status}.")
        return json.loads(line)

    def measure(self, metric: str, source: random.Random, lengths: Lengths) -> float:
        """Tokens per second of one metric, on prompts never seen before."""
        match metric:
            case name if name in (PREFILL_512, PREFILL_2048):
                num_tokens = lengths.short if name == PREFILL_512 else lengths.long
                return num_tokens / float(self.ask(do="prefill", prompt=fresh_prompt(source, num_tokens)))
            case name if name in (DECODE_0, DECODE_2000):
                prompt = fresh_prompt(source, 1 if name == DECODE_0 else lengths.depth)
                return float(self.ask(do="decode", prompt=prompt, num_tokens=lengths.num_tokens))
            case name if name == BATCH_16:
                prompts = [fresh_prompt(source, NUM_BATCH_PROMPT) for _ in range(NUM_BATCH)]
                return float(self.ask(do="batch", prompts=prompts, num_tokens=lengths.num_tokens))
        raise AssertionError(metric)


def fresh_prompt(source: random.Random, num_tokens: int) -> list[int]:
    """Token ids that no cache has seen."""
    return [source.randrange(FIRST_TOKEN, LAST_TOKEN) for _ in range(num_tokens)]


def run_own_tools(peers: Peers, model: Path, threads: int, flash: str, lengths: Lengths) -> dict[str, float]:
    """llama.cpp's figures by llama-bench and llama-batched-bench, tokens per second."""
    bench = (peers.tool("llama-bench"), "-m", model, "-t", threads, "-fa", int(flash == "on"), "-o", "json")
    tokens = lengths.num_tokens
    sizes = {
        PREFILL_512: ("-p", lengths.short, "-n", 0, "-r", 3),
        PREFILL_2048: ("-p", lengths.long, "-n", 0, "-r", 1),
        DECODE_0: ("-p", 0, "-n", tokens, "-r", 3),
        DECODE_2000: ("-p", 0, "-n", tokens, "-d", lengths.depth, "-r", 1),
    }
    found = {metric: float(_json_of(*bench, *size)[0]["avg_ts"]) for metric, size in sizes.items()}
    batched = _run(
        peers.tool("llama-batched-bench"), "-m", model, "-c", 8192, "-b", 2048, "-ub", 512, "-npp", NUM_BATCH_PROMPT,
        "-ntg", tokens, "-npl", NUM_BATCH, "-t", threads, "-tb", threads, "-fa", flash, "--output-format", "jsonl",
    )  # fmt: skip
    line = next(line for line in batched.splitlines() if line.startswith("{"))
    found[BATCH_16] = float(json.loads(line)["speed_tg"])
    return found


def _json_of(*words: object) -> Any:
    return json.loads(_run(*words))


def _run(*words: object) -> str:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{words[0]} ended with status {done.returncode}: {done.stderr[-500:]}")
    return done.stdout


def own_group(cpus: Sequence[int]) -> str:
    """Pin this process and all it starts to these cores, in a scheduler group that outranks other work if allowed.

    Autogroups share a core between sessions, whatever `nice` says: a busy shell elsewhere halves a timed run.
    """
    os.sched_setaffinity(0, set(cpus))
    try:
        if os.getsid(0) != os.getpid():
            os.setsid()
        Path("/proc/self/autogroup").write_text("-20")
    except OSError:
        return "the caller's scheduler group (for one of its own: setsid -w python -m ..., as root)"
    return "a scheduler group of its own at nice -20"
