"""What a database must offer to hold a ledger: all that differs between SQLite and PostgreSQL stands behind this.

SQL is written once, with `?` for values and SQLite's names of types, in the part of the language that both understand.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from isochrone.errors import BadConfig

Where: TypeAlias = "Path | str"
"""A SQLite file, or the URL of a PostgreSQL database."""
Statement: TypeAlias = tuple[str, tuple[Any, ...]]
BUSY_S = 0.25
"""How long a statement waits for another's lock before whoever asked is told."""
BUSY_APART_S = 1.0
"""The same in a thread of its own, where nobody hears of it at once."""


class Cursor(Protocol):
    """What a statement gave.  rowcount  how many rows it changed"""

    @property
    def rowcount(self) -> int: ...

    def fetchone(self) -> Any: ...

    def fetchall(self) -> list[Any]: ...

    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """One thread's at a time.  Outside `Store.transaction` each statement is a transaction of its own."""

    def execute(self, sql: str, values: Sequence[Any] = (), /) -> Cursor: ...

    def close(self) -> None: ...


class Store(Protocol):
    """One ledger's database.

    shown       what people may see of its name: no password
    failures    raised while the database cannot be used, perhaps soon again
    for_update  ends a SELECT whose rows stay as they are until the transaction ends
    clock_sql   Unix time by the one clock that all gateways of this ledger share, as an expression
    """

    shown: str
    failures: tuple[type[Exception], ...]
    for_update: str
    clock_sql: str

    def connect(self, *, busy_s: float = BUSY_S, is_durable: bool = False) -> Connection:
        """A connection, with all tables there.

        is_durable  a commit is on the disk when it returns, power loss included; otherwise the last second may be lost
        Raises one of `failures`, and BadConfig for a database from the future.
        """
        ...

    def connect_readable(self, *, busy_s: float = BUSY_S) -> Connection | None:
        """A connection that only reads; None while there is no ledger.  Raises one of `failures`."""
        ...

    def transaction(self, connection: Connection) -> AbstractContextManager[None]:
        """All that is executed in it is committed at its end, or, when it is left by an error, nothing is.

        Raises CommitInDoubt when nobody can say yet which of the two happened.
        """
        ...

    def run_all(self, connection: Connection, statements: Sequence[Statement]) -> None:
        """One after another, with as few waits as there can be.  Raises what the first that failed raised."""
        ...

    def refuses(self, error: Exception) -> bool:
        """Whether a statement that failed so would fail for ever, whatever becomes of the database."""
        ...

    def now(self, connection: Connection) -> float:
        """What that clock shows."""
        ...

    def is_unmade(self, error: Exception) -> bool:
        """Whether a query failed because the tables are not there yet."""
        ...

    def was_committed(self, connection: Connection, mark: str) -> bool:
        """What became of a commit in doubt.  Raises one of `failures` while that is still open."""
        ...


class CommitInDoubt(Exception):
    """The connection broke while a commit was under way.  mark  names it, see `Store.was_committed`"""

    def __init__(self, mark: str) -> None:
        super().__init__("The connection broke while a commit was under way.")
        self.mark = mark


def store_of(where: Where | Store) -> Store:
    """The store behind a file's path or a URL.  Only a URL imports PostgreSQL's client.  Raises BadConfig."""
    if isinstance(where, Path):
        from .sqlite import SqliteStore

        return SqliteStore(where)
    if not isinstance(where, str):
        return where
    if not is_url(where):
        raise BadConfig(
            f"{where.partition('://')[0][:40]!r} does not begin the URL of a ledger.",
            fix="Write postgresql://user@host/database, or leave it out for a file.",
        )
    from .postgres import PostgresStore

    return PostgresStore(where)


def is_url(text: str) -> bool:
    """Whether this names a PostgreSQL database."""
    return text.startswith(("postgresql://", "postgres://"))


def connect_or_say(where: Where | Store) -> Connection:
    """A durable connection, for a command.  Raises BadConfig, which says what is in the way."""
    store = store_of(where)
    try:
        return store.connect(busy_s=5.0, is_durable=True)
    except store.failures as error:
        raise cannot_open(store, error) from error


def cannot_open(store: Store, error: Exception) -> BadConfig:
    """Why the ledger cannot be used, with a way out."""
    why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if is_url(store.shown):
        fix = "Start that PostgreSQL, and see that its user may make tables there."
    else:
        fix = "Free space on that disk and make the file yours, or name another directory with ISOCHRONE_HOME."
    return BadConfig(f"The ledger {store.shown} cannot be opened: {why}.", fix=fix)
