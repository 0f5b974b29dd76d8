"""A ledger in a SQLite file: its pragmas, its owner-only mode, its locks."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .database import BUSY_S, Connection, Statement
from .schema import migrate

RETRY_S = 0.01
"""Between our own tries where SQLite does not wait by itself."""


_REFUSED_FOR_EVER = (
    sqlite3.IntegrityError, sqlite3.InterfaceError, sqlite3.DataError, sqlite3.ProgrammingError,
    ValueError, OverflowError,  # text that is no Unicode, integers beyond 64 bits
)  # fmt: skip


class SqliteStore:
    """Fulfils `Store`.  path  of the file, made on first writing, with its directory"""

    failures: tuple[type[Exception], ...] = (sqlite3.Error, OSError)
    for_update = ""  # one transaction writes at a time
    clock_sql = "((julianday('now') - 2440587.5) * 86400.0)"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.shown = str(path)
        self._turn = threading.Lock()  # SQLite lets others wait by sleeping, and whoever just wrote comes first again

    def connect(self, *, busy_s: float = BUSY_S, is_durable: bool = False) -> sqlite3.Connection:
        """See `Store.connect`.  Raises sqlite3.Error or OSError."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.path.exists():
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))  # it holds digests of keys, stored answers
        connection = sqlite3.connect(self.path, timeout=busy_s, isolation_level=None, check_same_thread=False)
        try:
            _write_ahead(connection, busy_s)
            connection.execute(f"PRAGMA synchronous = {'FULL' if is_durable else 'NORMAL'}")
            connection.execute("PRAGMA secure_delete = ON")  # a deleted answer is gone, not just unlinked
            migrate(connection, has_table=has_table, lock=(), begin="BEGIN IMMEDIATE")
        except BaseException:
            connection.close()
            raise
        return connection

    def connect_readable(self, *, busy_s: float = BUSY_S) -> sqlite3.Connection | None:
        """See `Store.connect_readable`."""
        if not self.path.exists():
            return None
        uri = f"{self.path.absolute().as_uri()}?mode=ro"
        return sqlite3.connect(uri, uri=True, timeout=busy_s, isolation_level=None, check_same_thread=False)

    @contextmanager
    def transaction(self, connection: Connection) -> Iterator[None]:
        """See `Store.transaction`.  Nothing is ever in doubt: the commit is this process's own."""
        with self._turn:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # type: ignore[attr-defined]  # a full disk has rolled back by itself
                    connection.execute("ROLLBACK")
                raise

    def run_all(self, connection: Connection, statements: Sequence[Statement]) -> None:
        """See `Store.run_all`."""
        for sql, values in statements:
            connection.execute(sql, values)

    def refuses(self, error: Exception) -> bool:
        """See `Store.refuses`."""
        return isinstance(error, _REFUSED_FOR_EVER)

    def now(self, connection: Connection) -> float:
        """See `Store.now`: all that open the file run on this machine."""
        return time.time()

    def is_unmade(self, error: Exception) -> bool:
        """See `Store.is_unmade`."""
        return "no such table" in str(error)

    def was_committed(self, connection: Connection, mark: str) -> bool:
        """See `Store.was_committed`."""
        raise AssertionError("no commit of SQLite is in doubt")


def has_table(connection: Connection, name: str) -> bool:
    """Whether it is there."""
    found = connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (name,)).fetchone()
    return found is not None


def _write_ahead(connection: sqlite3.Connection, busy_s: float) -> None:
    """Keep a log ahead of the database.  SQLite waits for other locks, but not for that of this switch."""
    give_up_at = time.monotonic() + busy_s
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            is_busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not is_busy or time.monotonic() >= give_up_at:
                raise
        time.sleep(RETRY_S)
