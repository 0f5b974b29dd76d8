"""The servers under comparison: started on loopback, stopped while the other is measured, and always ended."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import psutil

from .engines import ROOT
from .http_client import get
from .peers import Peers

HOST = "127.0.0.1"
START_S_MAX = 180.0


@dataclass(frozen=True, slots=True)
class ServerKind:
    """How to start a server; {port} stands for its port."""

    name: str
    model_id: str
    command: tuple[str, ...]
    has_metrics: bool


KV_MEMORY = "512MB"
"""Enough for 64 clients, and full well before memory is first looked at: growth after that is a leak."""


def ours(model: Path, threads: int, kv_memory: str = KV_MEMORY) -> ServerKind:
    """`isochrone up`, as a user starts it, with a bound on its KV cache."""
    command = (
        sys.executable, "-c", "from isochrone.cli import main; main()", "up", str(model), "--name", "bench",
        "--host", HOST, "--port", "{port}", "--threads", str(threads), "--kv-memory", kv_memory,
    )  # fmt: skip
    return ServerKind("Isochrone", "bench", command, has_metrics=True)


def llama_server(peers: Peers, model: Path, threads: int) -> ServerKind:
    """llama-server with a slot for each of sixteen clients."""
    command = (
        str(peers.tool("llama-server")), "-m", str(model), "-t", str(threads), "-np", "16", "-c", "16384",
        "--host", HOST, "--port", "{port}",
    )  # fmt: skip
    return ServerKind("llama-server", "bench", command, has_metrics=False)


class Server:
    """A running server.  Use as a context: it is killed at the end, children included."""

    def __init__(self, kind: ServerKind, log: Path, *, first: Callable[[], None] | None = None) -> None:
        """first  done in the new process before the server begins"""
        self.kind = kind
        self.port = free_port()
        command = [word.format(port=self.port) for word in kind.command]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                command, stdout=file, stderr=file, cwd=ROOT, env=environment, preexec_fn=first
            )
        self._log = log

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._tree():
            process.kill()
        self._process.wait()

    async def wait_until_ready(self, path: str = "/health") -> None:
        """Until that path says 200; raises RuntimeError with the log's end when the server gives up."""
        until = time.monotonic() + START_S_MAX
        while time.monotonic() < until and self._process.poll() is None:
            try:
                if (await get(HOST, self.port, path))[0] == 200:
                    return
            except (OSError, TimeoutError, asyncio.IncompleteReadError):
                pass  # not listening yet: asked again until the time is up
            await asyncio.sleep(0.1)
        raise RuntimeError(f"{self.kind.name} did not start: {self._log.read_text(errors='replace')[-1500:]}")

    def pause(self) -> None:
        """Stop every process of it, so that it takes no core while another is measured."""
        for process in self._tree():
            process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it run again."""
        for process in self._tree():
            process.send_signal(signal.SIGCONT)

    def memory_bytes(self) -> int:
        """PSS of all its processes."""
        return sum(process.memory_full_info().pss for process in self._tree())

    def cpu_s(self) -> float:
        """Processor time of all its processes so far."""
        return sum(sum(process.cpu_times()[:2]) for process in self._tree())

    def resident_bytes(self) -> int:
        """Resident memory of all its processes, cheap enough to look at often."""
        return sum(int(process.memory_info().rss) for process in self._tree())

    def num_open(self) -> tuple[int, int]:
        """(file descriptors, threads) of all its processes."""
        tree = self._tree()
        return sum(process.num_fds() for process in tree), sum(process.num_threads() for process in tree)

    async def gauges(self) -> dict[str, float]:
        """The numbers of its /metrics page, by name with labels."""
        _, page = await get(HOST, self.port, "/metrics")
        found = {}
        for line in page.splitlines():
            name, _, value = line.rpartition(" ")
            if name and not line.startswith("#"):
                found[name] = float(value)
        return found

    def _tree(self) -> list[psutil.Process]:
        try:
            root = psutil.Process(self._process.pid)
            return [*root.children(recursive=True), root]
        except psutil.NoSuchProcess:
            return []


def free_port() -> int:
    """A port of loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
