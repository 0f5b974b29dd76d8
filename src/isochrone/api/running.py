"""The servers of this user on this machine: each leaves a record while it runs.

A record whose process is gone, or is another one by now, is swept away by whoever reads it.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from isochrone import paths


@dataclass(frozen=True, slots=True)
class Running:
    """One server.  started_ticks  when its process began, as the kernel counts: tells it from a later namesake"""

    model: str
    url: str
    process_id: int
    started_ticks: int
    started_on: str


@contextlib.contextmanager
def recorded(model: str, url: str, started_on: str) -> Iterator[None]:
    """Keep this process's record for as long as the context is open."""
    me = Running(model, url, os.getpid(), _started_ticks(os.getpid()) or 0, started_on)
    file = paths.made(paths.run_dir()) / f"{me.process_id}.json"
    aside = file.with_suffix(".part")
    aside.write_text(json.dumps(asdict(me)))
    os.replace(aside, file)
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def servers() -> tuple[Running, ...]:
    """The servers that run now, by model and address; records of dead ones are removed."""
    found = []
    for file in sorted(paths.run_dir().glob("*.json")):
        record = _read(file)
        if record is not None and _started_ticks(record.process_id) == record.started_ticks:
            found.append(record)
        else:
            file.unlink(missing_ok=True)
    return tuple(sorted(found, key=lambda server: (server.model, server.url)))


def _read(file: Path) -> Running | None:
    try:
        return Running(**json.loads(file.read_text()))
    except (OSError, ValueError, TypeError):
        return None  # of another version, or half gone: not a server we can name


def _started_ticks(process_id: int) -> int | None:
    """Start of a process in clock ticks since boot, None when there is no such process."""
    try:
        stat = Path(f"/proc/{process_id}/stat").read_text()
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[19])
