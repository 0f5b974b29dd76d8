"""The ledger's tables, as the steps that made them: a database of any age is brought here step by step."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence

from isochrone.errors import BadConfig

from .database import Connection

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
    (
        "ALTER TABLE keys ADD COLUMN per_day_nano_usd INTEGER",
        "ALTER TABLE keys ADD COLUMN total_nano_usd INTEGER",
        "ALTER TABLE responses ADD COLUMN stored_at REAL NOT NULL DEFAULT 0",
        # beat_at: by the clock that gateways share;  is_over: whoever it was, it may spend no more
        "CREATE TABLE gateways (id TEXT PRIMARY KEY, beat_at REAL NOT NULL, is_over INTEGER NOT NULL)",
        # What a gateway may spend for a key on a day, and has spent; that gateway alone writes it while it lives.
        "CREATE TABLE leases (gateway TEXT NOT NULL, owner TEXT NOT NULL, day INTEGER NOT NULL, "
        "granted_nano_usd INTEGER NOT NULL, spent_nano_usd INTEGER NOT NULL, PRIMARY KEY (owner, day, gateway))",
        "CREATE INDEX leases_by_gateway ON leases (gateway)",
        # A request that may be running, and the most that it can cost.
        "CREATE TABLE holds (id TEXT PRIMARY KEY, gateway TEXT NOT NULL, owner TEXT NOT NULL, day INTEGER NOT NULL, "
        "nano_usd INTEGER NOT NULL)",
        "CREATE INDEX holds_by_lease ON holds (gateway, owner, day)",
        "CREATE TABLE decisions (number INTEGER PRIMARY KEY, id TEXT NOT NULL, owner TEXT NOT NULL, at REAL NOT NULL, "
        "route TEXT NOT NULL, model TEXT NOT NULL, place TEXT NOT NULL, policy TEXT NOT NULL, "
        "propensity REAL NOT NULL, is_exploring INTEGER NOT NULL, body BLOB NOT NULL)",
        "CREATE INDEX decisions_by_id ON decisions (id)",
        "CREATE INDEX decisions_by_age ON decisions (at)",
        "CREATE TABLE attempts (number INTEGER PRIMARY KEY, id TEXT NOT NULL, owner TEXT NOT NULL, at REAL NOT NULL, "
        "place TEXT NOT NULL, model TEXT NOT NULL, kind TEXT NOT NULL, is_hedge INTEGER NOT NULL, "
        "cost_nano_usd INTEGER NOT NULL, body BLOB NOT NULL)",
        "CREATE INDEX attempts_by_id ON attempts (id)",
        "CREATE INDEX attempts_by_age ON attempts (at)",
        "CREATE TABLE nodes (name TEXT PRIMARY KEY, url TEXT NOT NULL, state TEXT NOT NULL, facts BLOB NOT NULL, "
        "joined_at REAL NOT NULL, beat_at REAL NOT NULL)",
        "CREATE TABLE runs (owner TEXT NOT NULL, id TEXT NOT NULL, workflow TEXT NOT NULL, began_at REAL NOT NULL, "
        "updated_at REAL NOT NULL, total_s REAL, limit_nano_usd INTEGER, spent_nano_usd INTEGER NOT NULL, "
        "num_steps INTEGER NOT NULL, facts BLOB NOT NULL, PRIMARY KEY (owner, id))",
        "CREATE INDEX runs_by_workflow ON runs (owner, workflow, updated_at)",
        "CREATE INDEX runs_by_age ON runs (updated_at)",
    ),
)
"""Step n brings version n - 1 to version n.  A step that has been released never changes: add the next one.
Names of types are SQLite's; PostgreSQL's are put in their place there."""


Steps = tuple[tuple[str, ...], ...]
HasTable = Callable[[Connection, str], bool]


def version_of(connection: Connection, has_table: HasTable) -> int:
    """How many steps a database has behind it; 0 for a new one."""
    if not has_table(connection, "schema_version"):
        return 0
    version: int = connection.execute("SELECT coalesce(max(version), 0) FROM schema_version").fetchone()[0]
    return version


def migrate(
    connection: Connection, *, has_table: HasTable, begin: str, lock: Sequence[str] = (),
    translate: Callable[[str], str] = str, steps: Steps | None = None,
) -> int:  # fmt: skip
    """Take the steps that a database lacks, all or none.  Returns how many that were.

    begin, lock  statements after which no other program migrates: of two that start together, one waits there
    translate    from SQLite's names of types
    steps        MIGRATIONS unless given
    Raises BadConfig for a database from the future, and what the database raises that cannot be read or written.
    """
    steps = MIGRATIONS if steps is None else steps
    if version_of(connection, has_table) == len(steps):
        return 0
    connection.execute(begin)
    try:
        for statement in lock:
            connection.execute(statement)
        version = version_of(connection, has_table)
        _expect_known(version, len(steps))
        make = "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER PRIMARY KEY, applied_at REAL)"
        connection.execute(translate(make))
        for number, step in enumerate(steps[version:], start=version + 1):
            for statement in step:
                connection.execute(translate(statement))
            connection.execute("INSERT INTO schema_version VALUES (?, ?)", (number, time.time()))
        connection.execute("COMMIT")
    except BaseException:
        _roll_back(connection)
        raise
    return len(steps) - version


def _roll_back(connection: Connection) -> None:
    """Whoever lost the connection has nothing to roll back, and the first error is the one to hear of."""
    with contextlib.suppress(Exception):
        connection.execute("ROLLBACK")


def _expect_known(version: int, num_steps: int) -> None:
    if version > num_steps:
        raise BadConfig(
            f"The ledger has version {version}, and this Isochrone knows versions up to {num_steps}.",
            fix="Use the Isochrone that wrote it, or a newer one; ISOCHRONE_HOME names another directory.",
        )
