"""The one thread that writes the ledger: takes what is queued, a batch a transaction, and keeps it while it cannot.

Whoever hands something in never waits, whatever the disk does.  While the database is locked or the disk is full,
writes stay in the queue, which is bounded; that is said once when it begins, once when it ends, and counted all along.
A write that finds the queue full is refused to its owner's face.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isochrone.errors import IsochroneError

from .database import connect

_log = logging.getLogger("isochrone.ledger")
NUM_BATCH_MAX = 256
LINGER_S = 0.02
"""How long the first write of a batch waits for company."""
RETRY_S = 0.5
SWEEP_EVERY_S = 60.0
_REFUSED_FOR_EVER = (
    sqlite3.IntegrityError, sqlite3.InterfaceError, sqlite3.DataError, sqlite3.ProgrammingError,
    ValueError, OverflowError,  # text that is no Unicode, integers beyond 64 bits
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Write:
    """One change.  on_done  called in the writer's thread once it is committed (or can never be)"""

    sql: str
    values: tuple[Any, ...]
    num_bytes: int = 256
    on_done: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True)
class WriterStats:
    """The queue as it is, and counts since the start.  stuck_why  empty while writing goes well"""

    num_queued: int
    queued_bytes: int
    num_written: int
    num_refused: int
    num_failed: int
    stuck_why: str


class Writer:
    """sweep  statements that remove what is too old, given the Unix time; run once a minute."""

    def __init__(
        self,
        path: Path,
        *,
        sweep: Callable[[float], list[Write]] = lambda now: [],
        num_queued_max: int = 4096,
        queued_bytes_max: int = 32 << 20,
    ) -> None:
        self._path, self._sweep = path, sweep
        self._num_queued_max, self._queued_bytes_max = num_queued_max, queued_bytes_max
        self._queue: deque[Write] = deque()
        self._queued_bytes = self._num_written = self._num_refused = self._num_failed = 0
        self._stuck_why = ""
        self._changed = threading.Condition()
        self._is_closing = False
        self._close_at = 0.0
        self._connection: sqlite3.Connection | None = None
        self._thread = threading.Thread(target=self._run, name="isochrone-ledger", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, write: Write) -> bool:
        """Hand a write in.  Returns at once, with False when the queue is full."""
        with self._changed:
            is_full = (
                self._is_closing
                or len(self._queue) >= self._num_queued_max
                or self._queued_bytes + write.num_bytes > self._queued_bytes_max
            )
            if is_full:
                self._num_refused += 1
                return False
            self._queue.append(write)
            self._queued_bytes += write.num_bytes
            if len(self._queue) == 1:  # later ones are taken with it: waking for each would commit each by itself
                self._changed.notify()
            return True

    def stats(self) -> WriterStats:
        return WriterStats(
            len(self._queue), self._queued_bytes, self._num_written, self._num_refused, self._num_failed,
            self._stuck_why,
        )  # fmt: skip

    def close(self, seconds: float = 2.0) -> int:
        """Write what is queued, for at most so long.  Returns how many writes were lost, which is said too."""
        with self._changed:
            self._is_closing, self._close_at = True, time.monotonic() + seconds
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join(seconds + RETRY_S + 1.0)
        if self._queue:
            _log.error("ledger.lost", extra={"facts": {"writes": len(self._queue), "why": self._stuck_why}})
        return len(self._queue)

    # The thread.

    def _run(self) -> None:
        sweep_at = time.monotonic()
        while True:
            with self._changed:
                if not self._queue and not self._is_closing:
                    self._changed.wait(max(0.0, sweep_at - time.monotonic()))
                if self._is_over():
                    break
                if self._queue and not self._is_closing and not self._stuck_why:
                    self._changed.wait(LINGER_S)
                batch = [self._queue[at] for at in range(min(NUM_BATCH_MAX, len(self._queue)))]
            is_due = time.monotonic() >= sweep_at
            if not self._commit([*batch, *(self._sweep(time.time()) if is_due else [])]):
                with self._changed:
                    self._changed.wait(RETRY_S)
                continue
            if is_due:
                sweep_at = time.monotonic() + SWEEP_EVERY_S
            self._settle(batch)
        if self._connection is not None:
            self._connection.close()

    def _is_over(self) -> bool:
        return self._is_closing and (not self._queue or time.monotonic() >= self._close_at)

    def _settle(self, batch: list[Write]) -> None:
        with self._changed:
            for write in batch:
                self._queue.popleft()
                self._queued_bytes -= write.num_bytes
        for write in batch:
            if write.on_done is not None:
                write.on_done()

    def _commit(self, batch: list[Write]) -> bool:
        """One transaction; False when it must be tried again."""
        if not batch:
            return True
        try:
            if self._connection is None:
                self._connection = connect(self._path)
            self._connection.execute("BEGIN IMMEDIATE")
            for write in batch:
                self._execute(self._connection, write)
            self._connection.execute("COMMIT")
        except (sqlite3.Error, OSError, IsochroneError) as error:
            self._roll_back()
            self._say_stuck(error)
            return False
        self._num_written += len(batch)
        if self._stuck_why:
            self._stuck_why = ""
            _log.warning("ledger.works_again", extra={"facts": {"queued": len(self._queue)}})
        return True

    def _execute(self, connection: sqlite3.Connection, write: Write) -> None:
        """A write that the tables or SQLite's types refuse would be refused for ever: count it, say it, and go on."""
        try:
            connection.execute(write.sql, write.values)
        except _REFUSED_FOR_EVER as error:
            self._num_failed += 1
            _log.error("ledger.write_failed", extra={"facts": {"error": type(error).__name__}})

    def _roll_back(self) -> None:
        """After a failure the file is opened anew: it may have been replaced, or its disk mounted again."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.close()  # which rolls back

    def _say_stuck(self, error: Exception) -> None:
        why = str(error)
        if not self._stuck_why:
            _log.warning("ledger.stuck", extra={"facts": {"why": why, "queued": len(self._queue)}})
        self._stuck_why = why
