"""A database of any age is brought to the present, whole or not at all; one from the future is left alone."""

from __future__ import annotations

import sqlite3
import stat
import threading
from pathlib import Path

import pytest

from isochrone.errors import BadConfig
from isochrone.ledger.database import connect, connect_or_say, connect_readable
from isochrone.ledger.schema import MIGRATIONS, migrate, version_of

LATER = (("CREATE TABLE later (a)",), ("ALTER TABLE later ADD COLUMN b", "CREATE INDEX later_b ON later (b)"))


def tables(connection: sqlite3.Connection) -> set[str]:
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}


def bare(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None)


@pytest.mark.parametrize("version", range(len(MIGRATIONS) + len(LATER) + 1))
def test_a_database_of_any_version_ends_as_a_new_one_does(tmp_path: Path, version: int) -> None:
    steps = MIGRATIONS + LATER
    old, new = bare(tmp_path / "old"), bare(tmp_path / "new")
    migrate(old, steps[:version])
    assert version_of(old) == version
    assert migrate(old, steps) == len(steps) - version
    migrate(new, steps)
    assert tables(old) == tables(new) and version_of(old) == len(steps)
    assert migrate(old, steps) == 0


def test_a_step_that_fails_leaves_the_database_as_it_was(tmp_path: Path) -> None:
    connection = bare(tmp_path / "db")
    migrate(connection)
    before = tables(connection)
    with pytest.raises(sqlite3.Error):
        migrate(connection, (*MIGRATIONS, ("CREATE TABLE half (a)", "this is no SQL")))
    assert tables(connection) == before and version_of(connection) == len(MIGRATIONS)


def test_a_database_from_the_future_is_refused_and_not_changed(path: Path) -> None:
    connect(path).execute("INSERT INTO schema_version VALUES (999, 0)")
    with pytest.raises(BadConfig, match=r"version 999.*newer one"):
        connect(path)
    assert version_of(bare(path)) == 999


def test_programs_that_start_together_migrate_once(path: Path) -> None:
    path.parent.mkdir()
    failed: list[Exception] = []
    barrier = threading.Barrier(4)

    def start() -> None:
        barrier.wait()
        try:
            connect(path, busy_s=10).close()
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not failed and version_of(bare(path)) == len(MIGRATIONS)


def test_only_the_owner_reads_the_file(path: Path) -> None:
    connect(path).execute("INSERT INTO timelines (id, owner, at, facts) VALUES ('a', 'b', 0, x'00')")
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in (path, *path.parent.glob("ledger.db-*"))}
    assert set(modes.values()) == {0o600} and len(modes) > 1
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_reader_cannot_write(path: Path) -> None:
    connect(path)
    reading = connect_readable(path)
    assert reading is not None
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reading.execute("DELETE FROM keys")


def test_a_file_that_is_no_database_is_said_to_a_command(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"a letter to a friend" * 100)
    with pytest.raises(BadConfig, match=r"cannot be opened.*ISOCHRONE_HOME"):
        connect_or_say(path)
