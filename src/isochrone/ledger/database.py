"""Opening the ledger's SQLite file: its pragmas, its owner-only mode, and its failures as sentences."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

from isochrone.errors import BadConfig

from .schema import migrate

BUSY_S, RETRY_S = 0.25, 0.01
"""How long a statement waits for another's lock before whoever asked is told, and between our own tries."""


def connect(path: Path, *, busy_s: float = BUSY_S, is_durable: bool = False) -> sqlite3.Connection:
    """A connection for one thread at a time, with all tables there.

    is_durable  a commit is on the disk when it returns, power loss included; otherwise the last second may be lost
    Raises sqlite3.Error or OSError, and BadConfig for a database from the future.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))  # it holds digests of keys, and stored answers
    connection = sqlite3.connect(path, timeout=busy_s, isolation_level=None, check_same_thread=False)
    try:
        _write_ahead(connection, busy_s)
        connection.execute(f"PRAGMA synchronous = {'FULL' if is_durable else 'NORMAL'}")
        connection.execute("PRAGMA secure_delete = ON")  # a deleted answer is gone, not just unlinked
        migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


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


def connect_readable(path: Path, *, busy_s: float = BUSY_S) -> sqlite3.Connection | None:
    """A connection that only reads; None while there is no ledger.  Raises sqlite3.Error."""
    if not path.exists():
        return None
    uri = f"{path.absolute().as_uri()}?mode=ro"
    return sqlite3.connect(uri, uri=True, timeout=busy_s, isolation_level=None, check_same_thread=False)


def connect_or_say(path: Path) -> sqlite3.Connection:
    """`connect`, durably, for a command.  Raises BadConfig, which says what is in the way."""
    try:
        return connect(path, busy_s=5.0, is_durable=True)
    except (sqlite3.Error, OSError) as error:
        raise cannot_open(path, error) from error


def cannot_open(path: Path, error: Exception) -> BadConfig:
    """Why the ledger cannot be used, with a way out."""
    return BadConfig(
        f"The ledger {path} cannot be opened: {error}.",
        fix="Free space on that disk and make the file yours, or name another directory with ISOCHRONE_HOME.",
    )
