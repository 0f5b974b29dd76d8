"""The ledger's tables, as the steps that made them: a database of any age is brought here step by step."""

from __future__ import annotations

import sqlite3
import time

from isochrone.errors import BadConfig

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE keys (
            digest BLOB PRIMARY KEY, name TEXT NOT NULL, scopes TEXT NOT NULL,
            requests_per_min INTEGER, tokens_per_min INTEGER, num_concurrent INTEGER,
            created_at REAL NOT NULL, revoked_at REAL)""",
        "CREATE UNIQUE INDEX one_live_key_of_a_name ON keys (name) WHERE revoked_at IS NULL",
        "CREATE TABLE timelines (number INTEGER PRIMARY KEY, id TEXT NOT NULL, owner TEXT NOT NULL, "
        "at REAL NOT NULL, facts BLOB NOT NULL)",
        "CREATE INDEX timelines_by_id ON timelines (id)",
        "CREATE INDEX timelines_by_age ON timelines (at)",
        "CREATE TABLE responses (owner TEXT NOT NULL, id TEXT NOT NULL, body BLOB NOT NULL, "
        "expires_at REAL NOT NULL, PRIMARY KEY (owner, id))",
        "CREATE INDEX responses_by_age ON responses (expires_at)",
        "CREATE TABLE receipts (number INTEGER PRIMARY KEY, id TEXT NOT NULL, owner TEXT NOT NULL, "
        "at REAL NOT NULL, body BLOB NOT NULL)",
        "CREATE INDEX receipts_by_id ON receipts (id)",
        "CREATE INDEX receipts_by_age ON receipts (at)",
    ),
)
"""Step n brings version n - 1 to version n.  A step that has been released never changes: add the next one."""


def version_of(connection: sqlite3.Connection) -> int:
    """How many steps a database has behind it; 0 for a new one."""
    has_table = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'schema_version'").fetchone()
    if has_table is None:
        return 0
    version: int = connection.execute("SELECT coalesce(max(version), 0) FROM schema_version").fetchone()[0]
    return version


def migrate(connection: sqlite3.Connection, steps: tuple[tuple[str, ...], ...] = MIGRATIONS) -> int:
    """Take the steps that a database lacks, all or none.  Returns how many that were.

    Raises BadConfig for a database from the future, sqlite3.Error for one that cannot be read or written.
    """
    if version_of(connection) == len(steps):
        return 0
    connection.execute("BEGIN IMMEDIATE")  # of two processes that start together, one waits here
    try:
        version = version_of(connection)
        _expect_known(version, len(steps))
        connection.execute("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER PRIMARY KEY, applied_at REAL)")
        for number, step in enumerate(steps[version:], start=version + 1):
            for statement in step:
                connection.execute(statement)
            connection.execute("INSERT INTO schema_version VALUES (?, ?)", (number, time.time()))
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
    return len(steps) - version


def _expect_known(version: int, num_steps: int) -> None:
    if version > num_steps:
        raise BadConfig(
            f"The ledger has version {version}, and this Isochrone knows versions up to {num_steps}.",
            fix="Use the Isochrone that wrote it, or a newer one; ISOCHRONE_HOME names another directory.",
        )
