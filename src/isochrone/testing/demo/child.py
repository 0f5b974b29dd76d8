"""A process that says on its standard output, as JSON, that it listens; it can be stopped, killed and started again."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from isochrone.errors import Unreachable

START_S = 60.0
"""A first start compiles kernels."""
END_S = 10.0
LOG_CHARS = 1500
PR_SET_PDEATHSIG = 1


_LIBC = ctypes.CDLL(None)
"""Loaded here: between fork and exec nothing may be looked for."""


def _die_with_parent() -> None:
    """In the new process: when the parent is gone, however it went, this one is killed."""
    _LIBC.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


class Child:
    """In a process group of its own, so that what befalls it befalls its own children, too; it dies with its parent.

    log  takes its standard error
    """

    def __init__(self, name: str, command: Sequence[str], environ: Mapping[str, str], log: Path) -> None:
        self.name, self.log = name, log
        self._command, self._environ = tuple(command), dict(environ)
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, *more: str) -> dict[str, Any]:
        """What it says when it listens.  more  words at the end of its command.  Raises Unreachable."""
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, *more, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=log,
                env=self._environ, start_new_session=True, preexec_fn=_die_with_parent,
            )  # fmt: skip
        try:
            async with asyncio.timeout(START_S):
                return await self._said()
        except TimeoutError:
            raise self._failed("did not begin to listen") from None

    async def _said(self) -> dict[str, Any]:
        assert self._process is not None and self._process.stdout is not None  # `start` asked for a pipe
        said = b""
        while line := await self._process.stdout.readline():
            said += line
            with contextlib.suppress(ValueError):
                found: dict[str, Any] = json.loads(said)
                return found
        raise self._failed("ended before it listened")

    def _failed(self, what: str) -> Unreachable:
        return Unreachable(
            f"{self.name} {what}: {self.log.read_text(errors='replace')[-LOG_CHARS:]}", fix=f"See {self.log}."
        )

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    def signal(self, number: signal.Signals) -> None:
        """To the whole group; one that is gone hears nothing."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def stop(self) -> None:
        """It hangs: its connections stay open, and nothing moves."""
        self.signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """End a `stop`."""
        self.signal(signal.SIGCONT)

    async def kill(self) -> None:
        """At once, without a farewell."""
        self.signal(signal.SIGKILL)
        await self._gone()

    async def end(self) -> None:
        """As Ctrl-C ends it; what does not end in time is killed, its children in any case."""
        if self.is_running:
            self.go_on()
            self.signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(END_S):
                    await self._gone()
        await self.kill()

    async def _gone(self) -> None:
        if self._process is not None:
            await self._process.wait()
