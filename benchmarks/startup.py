"""Start and memory: python -m benchmarks.startup [--rounds 5] [--json FILE or -]

Times count from the start of the process to the first byte of an answer, as a user sees them.  `cold` has nothing
cached but the model: kernels are compiled, weights are packed and the tokenizer's table is made.  Memory is the
proportional set size of all processes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

MODEL = "smollm2-135m"
PROMPT = "The steam engine was invented in England, and by the end of the century it had changed the way"
"""20 tokens."""
FORBIDDEN_MAPS = ("torch", "llvmlite")
AIMS = {
    "complete_s": 0.25, "up_s": 0.5, "cold_complete_s": 3.0, "complete_pss_mb": 200.0, "up_pss_mb": 240.0,
    "up_pss_mb_after_load": 380.0,
}  # fmt: skip


def process_tree(pid: int) -> list[int]:
    """A process and all its descendants."""
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False).stdout.split()
    return [pid, *(p for child in found for p in process_tree(int(child)))]


def pss_mb(pid: int) -> float:
    """Proportional set size of a process and its descendants, MB."""
    total = 0
    for process in process_tree(pid):
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1000


def forbidden_maps(pid: int) -> list[str]:
    """Libraries that must never be in a server's memory, and are."""
    maps = "".join(Path(f"/proc/{p}/maps").read_text() for p in process_tree(pid))
    return [name for name in FORBIDDEN_MAPS if name in maps]


def isochrone() -> str:
    """The command of this environment."""
    return str(Path(sys.executable).parent / "isochrone")


def complete(environment: dict[str, str]) -> dict[str, float]:
    """Seconds to the first byte of `isochrone complete`, and memory then."""
    began_at = time.perf_counter()
    with subprocess.Popen(
        [isochrone(), "complete", MODEL, PROMPT, "--max-tokens", "64"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        os.read(process.stdout.fileno(), 1)
        took_s = time.perf_counter() - began_at
        memory = pss_mb(process.pid)
        process.stdout.read()
    return {"s": took_s, "pss_mb": memory}


class Server:
    """`isochrone up` on a free port."""

    def __init__(self, environment: dict[str, str]) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.began_at = time.perf_counter()
        self.process = subprocess.Popen(
            [isochrone(), "up", MODEL, "--port", str(self.port)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment,
        )  # fmt: skip

    def ask(self, prompt: str, max_tokens: int) -> float:
        """Stream one answer to its end; returns the instant of its first content."""
        body = json.dumps({
            "model": MODEL, "stream": True, "max_tokens": max_tokens, "temperature": 0, "prompt": prompt,
        }).encode()  # fmt: skip
        head = (
            "POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        with self._connect() as connection:
            connection.sendall(head.encode() + body)
            data, first_at = b"", 0.0
            while piece := connection.recv(65536):
                data += piece
                if not first_at and b'"text":' in data:
                    first_at = time.perf_counter()
        if not first_at:
            raise RuntimeError(f"no answer came: {data[-300:]!r}")
        return first_at

    def _connect(self) -> socket.socket:
        while True:
            try:
                return socket.create_connection(("127.0.0.1", self.port), timeout=60)
            except ConnectionRefusedError:
                if self.process.poll() is not None:
                    raise RuntimeError("the server ended before it listened") from None
                time.sleep(0.001)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


def up(environment: dict[str, str], *, under_load: bool = False) -> dict[str, float]:
    """Seconds to the first token of the first answer, and memory then (and after a load)."""
    server = Server(environment)
    try:
        result = {"s": server.ask(PROMPT, 1) - server.began_at, "pss_mb": pss_mb(server.process.pid)}
        if found := forbidden_maps(server.process.pid):
            raise RuntimeError(f"the server's memory maps hold {', '.join(found)}")
        if under_load:
            server.ask("word " * 2040, 8)
            streams = [threading.Thread(target=server.ask, args=(f"{i} {PROMPT}", 64)) for i in range(16)]
            for stream in streams:
                stream.start()
            for stream in streams:
                stream.join()
            result["pss_mb_after_load"] = pss_mb(server.process.pid)
        return result
    finally:
        server.stop()


def cold(run: Callable[[dict[str, str]], dict[str, float]]) -> dict[str, float]:
    """A run in a new home that holds the model and nothing else."""
    from isochrone.weights import store

    model = store.resolve(MODEL, offline=True)
    with tempfile.TemporaryDirectory() as home:
        place = Path(home) / "data" / "models" / MODEL
        place.mkdir(parents=True)
        shutil.copy(model, place / model.name)
        return run({**os.environ, "ISOCHRONE_HOME": home})


def main() -> int:
    """Measure, print, and compare with the aims; exit 1 when one is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", metavar="FILE", help="write the figures as JSON; - writes nothing else")
    given = parser.parse_args()
    environment = dict(os.environ)
    complete(environment), up(environment)  # whatever is not cached yet is made here
    completes = [complete(environment) for _ in range(given.rounds)]
    ups = [up(environment) for _ in range(given.rounds)]
    figures = {
        "complete_s": statistics.median(run["s"] for run in completes),
        "complete_pss_mb": statistics.median(run["pss_mb"] for run in completes),
        "up_s": statistics.median(run["s"] for run in ups),
        "up_pss_mb": statistics.median(run["pss_mb"] for run in ups),
        "up_pss_mb_after_load": up(environment, under_load=True)["pss_mb_after_load"],
        "cold_complete_s": cold(complete)["s"],
        "cold_up_s": cold(up)["s"],
    }
    if given.json == "-":
        print(json.dumps(figures, indent=2))
        return 0
    for name, value in figures.items():
        aim = f"   aim <= {AIMS[name]:g}{'' if value <= AIMS[name] else '   MISSED'}" if name in AIMS else ""
        print(f"{name:22} {value:8.3f}{aim}")
    if given.json:
        Path(given.json).write_text(json.dumps(figures, indent=2))
    return int(any(figures[name] > aim for name, aim in AIMS.items()))


if __name__ == "__main__":
    sys.exit(main())
