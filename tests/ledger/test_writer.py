"""Nobody waits for the disk, nothing is lost in silence, and what was committed outlives the process."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from isochrone.ledger import Ledger, Timeline
from isochrone.ledger.database import Connection, Store, Where, connect_or_say, store_of
from isochrone.ledger.sqlite import SqliteStore
from isochrone.ledger.writer import Write, Writer

Wait = Callable[[Callable[[], bool]], None]
INSERT = "INSERT INTO timelines (id, owner, at, facts) VALUES (?, 'o', 0, ?)"


def row(name: str, num_bytes: int = 10) -> Write:
    return Write(INSERT, (name, b""), num_bytes)


def names(where: Where) -> list[str]:
    connection = connect_or_say(where)
    found = [name for (name,) in connection.execute("SELECT id FROM timelines ORDER BY number")]
    connection.close()
    return found


@pytest.fixture
def lock(where: Where) -> Iterator[Connection]:
    """Holds the table against every writer until it commits."""
    connection = connect_or_say(where)
    connection.execute("BEGIN IMMEDIATE" if isinstance(where, Path) else "BEGIN")
    connection.execute("DELETE FROM timelines" if isinstance(where, Path) else "LOCK TABLE timelines")
    yield connection
    connection.close()


def test_what_is_handed_in_is_written_in_order_and_all_of_it_at_the_end(where: Where) -> None:
    writer = Writer(where)
    writer.start()
    expected = [f"r{at}" for at in range(1000)]
    assert all(writer.put(row(name)) for name in expected)
    assert writer.close() == 0
    assert names(where) == expected
    assert writer.put(row("late")) is False


def test_a_locked_database_is_said_once_and_then_everything_is_written(
    where: Where, lock: Connection, wait_for: Wait, caplog: pytest.LogCaptureFixture
) -> None:
    writer = Writer(where)
    writer.start()
    with caplog.at_level(logging.WARNING, "isochrone.ledger"):
        for name in "abc":
            assert writer.put(row(name))
        wait_for(lambda: "lock" in writer.stats().stuck_why)
        assert writer.put(row("d")) and writer.stats().num_queued == 4
        lock.execute("COMMIT")
        wait_for(lambda: writer.stats().num_queued == 0 and not writer.stats().stuck_why)
    assert [record.getMessage() for record in caplog.records] == ["ledger.stuck", "ledger.works_again"]
    assert names(where) == ["a", "b", "c", "d"]
    writer.close()


def test_a_full_disk_keeps_what_is_queued_until_there_is_room(path: Path, wait_for: Wait) -> None:
    limit = [60]

    class SmallDisk(SqliteStore):
        def connect(self, **options: Any) -> Any:
            connection = super().connect(**options)
            connection.execute(f"PRAGMA max_page_count = {limit[0]}")
            return connection

    writer = Writer(SmallDisk(path))
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
    where: Where, lock: Connection, bounds: dict[str, int], num_taken: int
) -> None:
    writer = Writer(where, **bounds)  # type: ignore[arg-type]
    taken = [writer.put(row(str(at))) for at in range(10)]
    assert taken == [True] * num_taken + [False] * (10 - num_taken)
    assert (writer.stats().num_queued, writer.stats().num_refused) == (num_taken, 10 - num_taken)


def test_what_cannot_be_written_at_the_end_is_said(
    where: Where, lock: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    writer = Writer(where)
    writer.start()
    writer.put(row("lost"))
    with caplog.at_level(logging.ERROR, "isochrone.ledger"):
        assert writer.close(0.1) == 1
    assert "ledger.lost" in [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize(
    ("column", "value"), [("id", None), ("id", "\ud800"), ("number", 1 << 63), ("id", object())],
    ids=["null", "surrogate", "huge", "object"],
)  # fmt: skip
def test_a_write_that_can_never_succeed_is_counted_and_stops_no_other(
    where: Where, column: str, value: object
) -> None:
    writer, done = Writer(where), []
    writer.start()
    given = {"id": "bad"} | {column: value}
    sql = f"INSERT INTO timelines ({', '.join(given)}, owner, at, facts) VALUES ({'?, ' * len(given)} 'o', 0, '')"
    bad = Write(sql, tuple(given.values()), on_done=lambda: done.append("bad"))
    for write in (row("before"), bad, row("after")):
        assert writer.put(write)
    writer.close()
    assert names(where) == ["before", "after"]
    assert writer.stats().num_failed == 1 and done == ["bad"]


def test_old_records_are_swept(where: Where, wait_for: Wait) -> None:
    with_old = [("responses", "(owner, id, body, expires_at) VALUES ('o', 'i', '', 1.0)")]
    with_old += [("receipts", "(id, owner, at, body) VALUES ('i', 'o', 1.0, '')")]
    with_old += [("timelines", "(id, owner, at, facts) VALUES ('i', 'o', 1.0, '')")]
    with_old += [("decisions", "(id, owner, at, route, model, place, policy, propensity, is_exploring, body) "
                  "VALUES ('i', 'o', 1.0, '', '', '', '', 1.0, 0, '')")]  # fmt: skip
    with_old += [("attempts", "(id, owner, at, place, model, kind, is_hedge, cost_nano_usd, body) "
                  "VALUES ('i', 'o', 1.0, '', '', '', 0, 0, '')")]  # fmt: skip
    with_old += [("runs", "(owner, id, workflow, began_at, updated_at, spent_nano_usd, num_steps, facts) "
                  "VALUES ('o', 'i', '', 1.0, 1.0, 0, 0, '')")]  # fmt: skip
    connection = connect_or_say(where)

    def counts() -> list[int]:
        return [connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table, _ in with_old]

    for table, values in with_old:
        connection.execute(f"INSERT INTO {table} {values}")
    assert counts() == [1] * len(with_old)
    ledger = Ledger(where, sweep_after_s=0.0)
    ledger.open(0.0)
    wait_for(lambda: not any(counts()))
    ledger.close()
    connection.close()


CHILD = """
import sys
from pathlib import Path
from isochrone.ledger.writer import Write, Writer
writer = Writer(sys.argv[1] if "://" in sys.argv[1] else Path(sys.argv[1]))
writer.start()
for at in range(100_000):
    said = Write("INSERT INTO timelines (id, owner, at, facts) VALUES (?, 'o', 0, ?)", (str(at), bytes(100)), 10,
                 lambda at=at: print(at, flush=True))
    while not writer.put(said):
        pass
"""


def test_a_killed_process_loses_nothing_that_was_committed(where: Where) -> None:
    """SIGKILL in the middle of writing: every row that was said to be written is there, and the file is sound."""
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(where)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    said = [int(child.stdout.readline()) for _ in range(600)]
    child.kill()
    said += [int(line) for line in child.stdout if line.endswith("\n")]
    child.wait()
    child.stdout.close()
    assert set(map(str, said)) <= set(names(where))
    if isinstance(where, Path):
        connection = connect_or_say(where)
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        connection.close()


def test_the_ledger_opens_without_a_disk_to_write_on(tmp_path: Path, wait_for: Wait) -> None:
    """A file stands where its directory should be: serving goes on, and the queue says why it grows."""
    (tmp_path / "state").write_text("not a directory")
    ledger = Ledger(tmp_path / "state" / "ledger.db")
    ledger.open(0.0)
    assert ledger.timelines.record(Timeline(id="a", owner="o", at=0.0, route="/", status=200))
    wait_for(lambda: bool(ledger.stats().stuck_why))
    assert ledger.stats().num_queued == 1
    ledger.close(0.0)


def test_a_batch_whose_commit_was_in_doubt_is_written_once(where: Where, wait_for: Wait) -> None:
    """The connection breaks with the answer to a commit on its way: once committed, once not."""
    from isochrone.ledger.database import CommitInDoubt

    real = store_of(where)
    fates = iter([True, False])

    class Breaking:
        """The store, but for its first two commits."""

        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

        def run_all(self, connection: Connection, statements: Any) -> None:
            real.run_all(connection, statements)
            fate = next(fates, None)
            if fate is not None:
                self.fate = fate
                if fate:
                    connection.execute("COMMIT")
                raise CommitInDoubt("mark")

        def was_committed(self, connection: Connection, mark: str) -> bool:
            assert mark == "mark"
            return self.fate

    store: Store = Breaking()  # type: ignore[assignment]
    writer = Writer(store)
    for name in "ab":
        writer.put(row(name))
    writer.start()
    wait_for(lambda: writer.stats().num_queued == 0)
    for name in "cd":
        writer.put(row(name))
    wait_for(lambda: writer.stats().num_queued == 0)
    writer.close()
    assert names(where) == ["a", "b", "c", "d"]


def test_postgresql_says_what_became_of_a_commit(postgres_url: str) -> None:
    from tests.ledger.conftest import schema_in

    store = store_of(schema_in(postgres_url))
    one, other = store.connect(), store.connect()
    marks = []
    for end in ("COMMIT", "ROLLBACK", ""):
        one.execute("BEGIN")
        one.execute(INSERT, ("a", b""))
        marks.append(one.execute("SELECT pg_current_xact_id()::text").fetchone()[0])
        if end:
            one.execute(end)
    assert store.was_committed(other, marks[0]) is True
    assert store.was_committed(other, marks[1]) is False
    with pytest.raises(store.failures, match="still under way"):
        store.was_committed(other, marks[2])
    one.close()
    other.close()
