"""One process at a time, and files that are whole or absent: what shared directories need."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .. import paths
from ..errors import Overloaded

WAIT_S = 1800.0
"""How long another process may pull or pack before we give up on it."""
POLL_S = 0.05


@contextmanager
def held(lock: Path, wait_s: float = WAIT_S) -> Iterator[None]:
    """Hold a lock file, waiting for whoever has it; it frees itself when a process dies.

    Raises Overloaded when it stays taken.  The file remains: removing it would let two processes hold two locks.
    """
    paths.made(lock.parent)
    fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        give_up_at = time.monotonic() + wait_s
        while not _take(fd):
            if time.monotonic() >= give_up_at:
                raise Overloaded(
                    f"Another process has held {lock} for {wait_s:.0f} s.",
                    fix="Wait for it to finish, or end it.",
                    retry_after_s=60.0,
                )
            time.sleep(POLL_S)
        yield
    finally:
        os.close(fd)


def _take(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def publish(part: Path, target: Path) -> None:
    """Give a finished file its name: readers see the old one or the whole new one, after a power cut too."""
    with open(part, "rb") as stream:
        os.fsync(stream.fileno())
    os.replace(part, target)
    directory = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
