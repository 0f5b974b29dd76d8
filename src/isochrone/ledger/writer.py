"""The one thread that writes the ledger: takes what is queued, a batch a transaction, and keeps it while it cannot.

Whoever hands something in never waits, whatever the database does.  While it is locked or away, or its disk is full,
writes stay in the queue, which is bounded; that is said once when it begins, once when it ends, and counted all along.
A write that finds the queue full is refused to its owner's face.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from isochrone.errors import IsochroneError

from .database import BUSY_APART_S, CommitInDoubt, Connection, Statement, Store, Where, store_of

_log = logging.getLogger("isochrone.ledger")
NUM_BATCH_MAX = 256
LINGER_S = 0.02
"""How long the first write of a batch waits for company."""
RETRY_S = 0.5
SWEEP_AFTER_S = 10.0
"""Until the first sweep: a server that starts has better things to do, and may be over before."""
SWEEP_EVERY_S = 60.0


@dataclass(frozen=True, slots=True)
class Write:
    """One change.

    on_done     called in the writer's thread once it is committed (or can never be)
    is_durable  it must outlive a power cut as soon as it is committed, as money must
    """

    sql: str
    values: tuple[Any, ...]
    num_bytes: int = 256
    on_done: Callable[[], None] | None = None
    is_durable: bool = False


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
        where: Where | Store,
        *,
        sweep: Callable[[float], list[Write]] = lambda now: [],
        sweep_after_s: float = SWEEP_AFTER_S,
        num_queued_max: int = 4096,
        queued_bytes_max: int = 32 << 20,
    ) -> None:
        self._store, self._sweep, self._sweep_after_s = store_of(where), sweep, sweep_after_s
        self._num_queued_max, self._queued_bytes_max = num_queued_max, queued_bytes_max
        self._queue: deque[Write] = deque()
        self._queued_bytes = self._num_written = self._num_refused = self._num_failed = 0
        self._stuck_why = ""
        self._changed = threading.Condition()
        self._is_closing = False
        self._close_at = 0.0
        self._connection: Connection | None = None
        self._is_durable = False
        self._doubt: tuple[str, int] | None = None  # mark of a commit in doubt, and how many writes were in it
        self._thread = threading.Thread(target=self._run, name="isochrone-ledger", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, write: Write, *, is_owed: bool = False) -> bool:
        """Hand a write in.  Returns at once, with False when the queue is full.

        is_owed  the end of something whose beginning was taken: a full queue takes it too, so that what it holds
                 beyond its bound is bounded by what is under way
        """
        with self._changed:
            is_full = self._is_closing or (not is_owed and not self._has_room(write))
            if is_full:
                self._num_refused += 1
                return False
            self._queue.append(write)
            self._queued_bytes += write.num_bytes
            if len(self._queue) == 1:  # later ones are taken with it: waking for each would commit each by itself
                self._changed.notify()
            return True

    def _has_room(self, write: Write) -> bool:
        return (
            len(self._queue) < self._num_queued_max and self._queued_bytes + write.num_bytes <= self._queued_bytes_max
        )

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
        sweep_at = time.monotonic() + self._sweep_after_s
        while True:
            with self._changed:
                if not self._queue and not self._is_closing:
                    self._changed.wait(max(0.0, sweep_at - time.monotonic()))
                if self._is_over():
                    break
                if self._queue and not self._is_closing and not self._stuck_why:
                    self._changed.wait(LINGER_S)
                num = NUM_BATCH_MAX if self._doubt is None else self._doubt[1]
                batch = [self._queue[at] for at in range(min(num, len(self._queue)))]
            is_due = time.monotonic() >= sweep_at
            if not self._commit(batch, self._sweep(time.time()) if is_due else []):
                with self._changed:
                    self._changed.wait(RETRY_S)
                continue
            if is_due:
                sweep_at = time.monotonic() + SWEEP_EVERY_S
            self._settle(batch)
        self._disconnect()

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

    def _commit(self, batch: list[Write], sweep: list[Write]) -> bool:
        """One transaction; False when it must be tried again."""
        if not batch and not sweep:
            return True
        troubles: tuple[type[Exception], ...] = (*self._store.failures, IsochroneError)
        try:
            connection = self._connect(any(write.is_durable for write in batch))
            if not self._is_there_already(connection):
                self._transact(connection, [*batch, *sweep])
        except CommitInDoubt as doubt:
            self._doubt = (doubt.mark, len(batch))
            self._disconnect()
            self._say_stuck(doubt)
            return False
        except troubles as error:
            self._disconnect()
            self._say_stuck(error)
            return False
        self._num_written += len(batch)
        if self._stuck_why:
            self._stuck_why = ""
            _log.warning("ledger.works_again", extra={"facts": {"queued": len(self._queue)}})
        return True

    def _connect(self, must_be_durable: bool) -> Connection:
        """After a failure the database is opened anew: its file may have been replaced, its server restarted."""
        if self._connection is not None and must_be_durable and not self._is_durable:
            self._disconnect()
        if self._connection is None:
            self._is_durable = self._is_durable or must_be_durable
            self._connection = self._store.connect(busy_s=BUSY_APART_S, is_durable=self._is_durable)
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.close()

    def _is_there_already(self, connection: Connection) -> bool:
        """Whether this batch is one whose commit was in doubt, and has happened."""
        if self._doubt is None:
            return False
        was_committed = self._store.was_committed(connection, self._doubt[0])
        self._doubt = None
        return was_committed

    def _transact(self, connection: Connection, writes: Sequence[Write]) -> None:
        """All at once; where one of them can never be written, one by one, so that it stops no other."""
        statements: list[Statement] = [(write.sql, write.values) for write in writes]
        try:
            with self._store.transaction(connection):
                self._store.run_all(connection, statements)
        except Exception as error:
            if not self._store.refuses(error):
                raise
            with self._store.transaction(connection):
                for statement in statements:
                    self._try(connection, statement)

    def _try(self, connection: Connection, statement: Statement) -> None:
        """What the tables or the database's types refuse would be refused for ever: count it, say it, and go on."""
        connection.execute("SAVEPOINT one")
        try:
            connection.execute(*statement)
        except Exception as error:
            if not self._store.refuses(error):
                raise
            connection.execute("ROLLBACK TO SAVEPOINT one")
            self._num_failed += 1
            _log.error("ledger.write_failed", extra={"facts": {"error": type(error).__name__}})
        connection.execute("RELEASE SAVEPOINT one")

    def _say_stuck(self, error: Exception) -> None:
        why = str(error)
        if not self._stuck_why:
            _log.warning("ledger.stuck", extra={"facts": {"why": why, "queued": len(self._queue)}})
        self._stuck_why = why
