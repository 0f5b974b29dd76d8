"""Nobody waits for the disk, nothing is lost in silence, and what was committed outlives the process."""

from __future__ import annotations

import logging
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from isochrone.ledger import Ledger, Timeline
from isochrone.ledger import writer as writing
from isochrone.ledger.database import connect
from isochrone.ledger.writer import Write, Writer

Wait = Callable[[Callable[[], bool]], None]
INSERT = "INSERT INTO timelines (id, owner, at, facts) VALUES (?, 'o', 0, x'00')"


def row(name: str, num_bytes: int = 10) -> Write:
    return Write(INSERT, (name,), num_bytes)


def names(path: Path) -> list[str]:
    return [name for (name,) in connect(path).execute("SELECT id FROM timelines ORDER BY number")]


@pytest.fixture
def lock(path: Path) -> sqlite3.Connection:
    """Holds the database against every writer until it commits."""
    connection = connect(path)
    connection.execute("BEGIN IMMEDIATE")
    return connection


def test_what_is_handed_in_is_written_in_order_and_all_of_it_at_the_end(path: Path) -> None:
    writer = Writer(path)
    writer.start()
    expected = [f"r{at}" for at in range(1000)]
    assert all(writer.put(row(name)) for name in expected)
    assert writer.close() == 0
    assert names(path) == expected
    assert writer.put(row("late")) is False


def test_a_locked_database_is_said_once_and_then_everything_is_written(
    path: Path, lock: sqlite3.Connection, wait_for: Wait, caplog: pytest.LogCaptureFixture
) -> None:
    writer = Writer(path)
    writer.start()
    with caplog.at_level(logging.WARNING, "isochrone.ledger"):
        for name in "abc":
            assert writer.put(row(name))
        wait_for(lambda: "locked" in writer.stats().stuck_why)
        assert writer.put(row("d")) and writer.stats().num_queued == 4
        lock.execute("COMMIT")
        wait_for(lambda: writer.stats().num_queued == 0 and not writer.stats().stuck_why)
    assert [record.getMessage() for record in caplog.records] == ["ledger.stuck", "ledger.works_again"]
    assert names(path) == ["a", "b", "c", "d"]
    writer.close()


def test_a_full_disk_keeps_what_is_queued_until_there_is_room(
    path: Path, wait_for: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = [20]

    def connect_small(where: Path) -> sqlite3.Connection:
        connection = connect(where)
        connection.execute(f"PRAGMA max_page_count = {limit[0]}")
        return connection

    monkeypatch.setattr(writing, "connect", connect_small)
    writer = Writer(path)
    writer.start()
    big = Write("INSERT INTO timelines (id, owner, at, facts) VALUES ('big', 'o', 0, zeroblob(1000000))", ())
    assert writer.put(big)
    wait_for(lambda: "full" in writer.stats().stuck_why)
    assert writer.put(row("behind")) and writer.stats().num_written == 0
    limit[0] = 100_000
    wait_for(lambda: writer.stats().num_queued == 0)
    assert names(path) == ["big", "behind"]
    writer.close()


@pytest.mark.parametrize(("bounds", "num_taken"), [({"num_queued_max": 3}, 3), ({"queued_bytes_max": 25}, 2)])
def test_a_full_queue_refuses_to_the_face_and_counts(
    path: Path, lock: sqlite3.Connection, bounds: dict[str, int], num_taken: int
) -> None:
    writer = Writer(path, **bounds)  # type: ignore[arg-type]
    taken = [writer.put(row(str(at))) for at in range(10)]
    assert taken == [True] * num_taken + [False] * (10 - num_taken)
    assert (writer.stats().num_queued, writer.stats().num_refused) == (num_taken, 10 - num_taken)


def test_what_cannot_be_written_at_the_end_is_said(
    path: Path, lock: sqlite3.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    writer = Writer(path)
    writer.start()
    writer.put(row("lost"))
    with caplog.at_level(logging.ERROR, "isochrone.ledger"):
        assert writer.close(0.1) == 1
    assert "ledger.lost" in [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("value", [None, "\ud800", 1 << 63, object()], ids=["null", "surrogate", "huge", "object"])
def test_a_write_that_can_never_succeed_is_counted_and_stops_no_other(path: Path, value: object) -> None:
    writer, done = Writer(path), []
    writer.start()
    bad = Write(INSERT, (value,), on_done=lambda: done.append("bad"))
    for write in (row("before"), bad, row("after")):
        assert writer.put(write)
    writer.close()
    assert names(path) == ["before", "after"]
    assert writer.stats().num_failed == 1 and done == ["bad"]


def test_old_records_are_swept(path: Path) -> None:
    with_old: list[Any] = [("responses", "(owner, id, body, expires_at) VALUES ('o', 'i', x'', 1.0)")]
    with_old += [("receipts", "(id, owner, at, body) VALUES ('i', 'o', 1.0, x'')")]
    with_old += [("timelines", "(id, owner, at, facts) VALUES ('i', 'o', 1.0, x'')")]
    connection = connect(path)
    for table, values in with_old:
        connection.execute(f"INSERT INTO {table} {values}")
    ledger = Ledger(path)
    ledger.open(0.0)
    ledger.close()
    assert [connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table, _ in with_old] == [0, 0, 0]


CHILD = """
import sys
from pathlib import Path
from isochrone.ledger.writer import Write, Writer
writer = Writer(Path(sys.argv[1]))
writer.start()
for at in range(100_000):
    said = Write("INSERT INTO timelines (id, owner, at, facts) VALUES (?, 'o', 0, zeroblob(100))", (str(at),), 10,
                 lambda at=at: print(at, flush=True))
    while not writer.put(said):
        pass
"""


def test_a_killed_process_loses_nothing_that_was_committed(path: Path) -> None:
    """SIGKILL in the middle of writing: every row that was said to be written is there, and the file is sound."""
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    said = [int(child.stdout.readline()) for _ in range(600)]
    child.kill()
    said += [int(line) for line in child.stdout if line.endswith("\n")]
    child.wait()
    child.stdout.close()
    assert set(map(str, said)) <= set(names(path))
    assert connect(path).execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_the_ledger_opens_without_a_disk_to_write_on(tmp_path: Path, wait_for: Wait) -> None:
    """A file stands where its directory should be: serving goes on, and the queue says why it grows."""
    (tmp_path / "state").write_text("not a directory")
    ledger = Ledger(tmp_path / "state" / "ledger.db")
    ledger.open(0.0)
    assert ledger.timelines.record(Timeline(id="a", owner="o", at=0.0, route="/", status=200))
    wait_for(lambda: bool(ledger.stats().stuck_why))
    assert ledger.stats().num_queued == 1
    ledger.close(0.0)
