"""A database of any age is brought to the present, whole or not at all; one from the future is left alone."""

from __future__ import annotations

import sqlite3
import stat
import threading
from pathlib import Path

import pytest

from isochrone.errors import BadConfig, MissingExtra
from isochrone.ledger import Key, Ledger, keys, schema
from isochrone.ledger.database import Connection, Store, Where, connect_or_say, store_of
from isochrone.ledger.schema import MIGRATIONS, version_of

LATER = (("CREATE TABLE later (a BLOB)",), ("ALTER TABLE later ADD COLUMN b REAL", "CREATE INDEX later_b ON later (b)"))


def versions(store: Store, connection: Connection) -> int:
    module = __import__(type(store).__module__, fromlist=["has_table"])
    return version_of(connection, module.has_table)


def columns(store: Store, connection: Connection) -> set[tuple[str, str]]:
    """(table, column) of all there are."""
    if type(store).__name__ == "SqliteStore":
        sql = "SELECT m.name, c.name FROM sqlite_master AS m, pragma_table_info(m.name) AS c WHERE m.type = 'table'"
    else:
        sql = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = current_schema()"
    return set(map(tuple, connection.execute(sql)))


@pytest.mark.parametrize("version", range(len(MIGRATIONS) + len(LATER) + 1))
def test_a_database_of_any_version_ends_as_a_new_one_does(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    steps = MIGRATIONS + LATER
    monkeypatch.setattr(schema, "MIGRATIONS", steps[:version])
    store.connect().close()
    monkeypatch.setattr(schema, "MIGRATIONS", steps)
    connection = store.connect()
    new = store_of(tmp_path / "new" / "ledger.db")
    assert versions(store, connection) == len(steps)
    assert columns(store, connection) == columns(new, new.connect())
    connection.close()


def test_a_step_that_fails_leaves_the_database_as_it_was(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = store.connect()
    before = columns(store, connection)
    monkeypatch.setattr(schema, "MIGRATIONS", (*MIGRATIONS, ("CREATE TABLE half (a BLOB)", "this is no SQL")))
    with pytest.raises(store.failures):
        store.connect()
    assert columns(store, connection) == before and versions(store, connection) == len(MIGRATIONS)
    connection.close()


def test_a_database_from_the_future_is_refused_and_not_changed(store: Store) -> None:
    connection = store.connect()
    connection.execute("INSERT INTO schema_version VALUES (999, 0)")
    with pytest.raises(BadConfig, match=r"version 999.*newer one"):
        store.connect()
    assert versions(store, connection) == 999
    connection.close()


def test_programs_that_start_together_migrate_once(where: Where) -> None:
    failed: list[Exception] = []
    barrier = threading.Barrier(4)

    def start() -> None:
        barrier.wait()
        try:
            store_of(where).connect(busy_s=10).close()
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    connection = store_of(where).connect()
    assert not failed and connection.execute("SELECT count(*) FROM schema_version").fetchone()[0] == len(MIGRATIONS)
    connection.close()


def test_keys_of_an_older_ledger_are_asked_for_from_the_first_request_on(
    where: Where, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The columns that this Isochrone reads are not there yet: it makes them, and does not take keys for absent."""
    monkeypatch.setattr(schema, "MIGRATIONS", MIGRATIONS[:1])
    old = store_of(where).connect()
    columns = "digest, name, scopes, created_at"
    old.execute(f"INSERT INTO keys ({columns}) VALUES (?, 'ann', 'infer', 0)", (keys.digest_of(b"k"),))
    old.close()
    monkeypatch.setattr(schema, "MIGRATIONS", MIGRATIONS)
    ledger = Ledger(where)
    ledger.open(0.0)
    assert ledger.keys.find(keys.digest_of(b"k")) == Key(keys.digest_of(b"k"), "ann", ("infer",))
    ledger.close()


def test_only_the_owner_reads_the_file(path: Path) -> None:
    connection = store_of(path).connect()
    connection.execute("INSERT INTO timelines (id, owner, at, facts) VALUES ('a', 'b', 0, x'00')")
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in (path, *path.parent.glob("ledger.db-*"))}
    assert set(modes.values()) == {0o600} and len(modes) > 1
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_reader_cannot_write(store: Store) -> None:
    store.connect().close()
    reading = store.connect_readable()
    assert reading is not None
    with pytest.raises(store.failures, match=r"readonly|read-only"):
        reading.execute("DELETE FROM keys")
    reading.close()


def test_a_file_that_is_no_database_is_said_to_a_command(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"a letter to a friend" * 100)
    with pytest.raises(BadConfig, match=r"cannot be opened.*ISOCHRONE_HOME"):
        connect_or_say(path)


def test_a_server_that_is_not_there_is_said_without_its_password(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(BadConfig, match=r"cannot be opened.*Start that PostgreSQL") as said:
        connect_or_say(f"postgresql://ann:hush-hush@/shop?host={tmp_path}")
    assert "hush" not in str(said.value) and "/shop" in str(said.value)


@pytest.mark.parametrize("url", ["mysql://a/b", "ledger.db", ""])
def test_what_names_no_ledger_is_refused(url: str) -> None:
    with pytest.raises(BadConfig, match=r"postgresql://"):
        store_of(url)


def test_without_its_client_postgresql_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.delitem(sys.modules, "isochrone.ledger.postgres", raising=False)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtra, match=r"isochrone\[postgres\]"):
        store_of("postgresql:///x")


def test_sqlite_is_no_worse_a_sqlite_than_before(path: Path) -> None:
    connection = store_of(path).connect()
    assert isinstance(connection, sqlite3.Connection)
    modes = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "secure_delete")]
    assert modes == ["wal", 1]
