"""One life of an engine process, seen from the gateway: started, spoken to, watched until it ends."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import msgspec

from isochrone.errors import Unreachable

from .records import EngineSpec, FromEngine, ToEngine
from .wire import from_engine, pack


class EngineChild(asyncio.Protocol):
    """A process and the pipe to it.

    on_message  called with every record it says
    heard_at    when it last said something, on the monotonic clock
    ended       done when the pipe has closed, however that came
    """

    def __init__(self, on_message: Callable[[FromEngine], None]) -> None:
        self._on_message, self._unpacker = on_message, from_engine()
        self._transport: asyncio.Transport | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.heard_at = time.monotonic()
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @classmethod
    async def start(cls, spec: EngineSpec, on_message: Callable[[FromEngine], None]) -> EngineChild:
        """Start the process; it loads while this returns.  Raises Unreachable."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        child = cls(on_message)
        with theirs:
            command = [sys.executable, "-P", "-m", "isochrone.engine.process", str(theirs.fileno())]
            try:
                child._process = subprocess.Popen(
                    [*command, msgspec.json.encode(spec).decode()],
                    env=_environment(),
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                )
            except OSError as error:
                ours.close()
                raise Unreachable(f"The engine's process cannot be started: {error}", fix="Free memory.") from error
        ours.setblocking(False)
        await asyncio.get_running_loop().create_unix_connection(lambda: child, sock=ours)
        return child

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def say(self, record: ToEngine) -> None:
        """Send a record; lost silently only if the process is gone, which `ended` tells."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(pack(record))

    def kill(self) -> None:
        """End it now; `ended` follows."""
        assert self._process is not None
        self._process.kill()

    async def reap(self, stop_s: float) -> str:
        """Wait for the process, whose pipe has closed, to be gone; say how it ended."""
        if self._transport is not None:
            self._transport.abort()
        assert self._process is not None
        try:
            code = await asyncio.to_thread(self._process.wait, stop_s)
        except subprocess.TimeoutExpired:
            self.kill()
            code = await asyncio.to_thread(self._process.wait)
        return f"was killed by signal {-code}" if code < 0 else f"exited with code {code}"

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.heard_at = time.monotonic()
        try:
            for message in self._unpacker.push(data):
                self._on_message(message)
        except Unreachable:
            self.kill()  # it talks nonsense: bring up another
            raise

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


def _environment() -> dict[str, str]:
    """Ours, but the child runs this very package, and no BLAS starts threads beside the runtime's."""
    root = str(Path(__file__).resolve().parents[2])
    paths = [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {"OPENBLAS_NUM_THREADS": "1", **os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}
