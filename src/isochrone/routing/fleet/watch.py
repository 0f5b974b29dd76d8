"""Keeping the running fleet as the file says and the nodes announce: looked at every two seconds, or when asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

from isochrone.errors import IsochroneError

from .file import read_fleet
from .live import Changes, Fleet
from .nodes import Nodes, specs_present

PERIOD_S = 2.0
Stamp: TypeAlias = "tuple[int, int, int] | None"
Tell: TypeAlias = Callable[[str, dict[str, object]], None]
"""An event for the log, and its facts."""


class Watch:
    """One fleet's.

    file   None: it was not read from one
    nodes  None: nodes cannot join;  token: theirs
    tell   hears what changed, and why something could not
    """

    def __init__(
        self, fleet: Fleet, *, file: Path | None = None, nodes: Nodes | None = None, token: str = "", tell: Tell,
        now: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._fleet, self._file, self._nodes, self._token = fleet, file, nodes, token
        self._tell, self._now = tell, now
        self._stamp = _stamp(file)
        self._troubles: dict[str, str] = {}

    async def run(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Until it is cancelled.  A mistake in the file or a ledger out of reach leave the fleet as it is."""
        while True:
            await self.step()
            await sleep(PERIOD_S)

    async def step(self) -> None:
        """Look once at everything."""
        stamp = _stamp(self._file)
        if stamp != self._stamp:
            self._stamp = stamp
            await self.reload()
        if self._nodes is not None:
            try:
                specs = await specs_present(self._nodes, self._token, self._fleet.file.catalogue)
                self._changed(self._fleet.see(specs, self._now()))
                self._troubles.pop("nodes", None)
            except IsochroneError as error:
                self._trouble("nodes", error)
        for member in self._fleet.members.values():
            member.measure()
        for name in await self._fleet.sweep(self._now()):
            self._tell("place.closed", {"place": name})

    async def reload(self) -> None:
        """Read the file again, now."""
        if self._file is None:
            return
        try:
            found = await asyncio.to_thread(read_fleet, self._file)
            self._changed(self._fleet.reload(found, self._now()))
            self._troubles.pop("file", None)
        except IsochroneError as error:
            self._trouble("file", error)

    def _changed(self, changes: Changes) -> None:
        for event, names in (("place.added", changes.added), ("place.leaving", changes.leaving)):
            for name in names:
                self._tell(event, {"place": name})

    def _trouble(self, what: str, error: IsochroneError) -> None:
        """Say it once, not every two seconds."""
        if self._troubles.get(what) != str(error):
            self._troubles[what] = str(error)
            self._tell("fleet.unchanged", {"because": what, "error": error.message, "fix": error.fix})


def _stamp(file: Path | None) -> Stamp:
    """Changes when the file does; None while there is none."""
    if file is None:
        return None
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
