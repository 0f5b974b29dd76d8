"""A stored response exists for its owner, until its time is over, and for nobody else."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isochrone.errors import Overloaded
from isochrone.ledger import Ledger, responses
from isochrone.ledger.database import Where, connect_or_say, store_of
from isochrone.ledger.reader import Reader
from isochrone.ledger.responses import Responses
from isochrone.ledger.writer import Writer


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


OWNERS, IDS = st.sampled_from(["ann", "bob"]), st.sampled_from(["r1", "r2", "r3"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), OWNERS, IDS, st.binary(max_size=8), st.integers(1, 30)),
        st.tuples(st.just("delete"), OWNERS, IDS),
        st.tuples(st.just("wait"), st.integers(1, 20)),
        st.tuples(st.just("flush")),
    ),
    max_size=30,
)


@settings(max_examples=40, deadline=None)
@given(STEPS)
def test_what_is_read_is_what_was_stored_whether_written_yet_or_not(tmp_path_factory: object, steps: object) -> None:
    """Against a dictionary: any order of storing, deleting, waiting and writing."""
    path = tmp_path_factory.mktemp("ledger") / "l.db"  # type: ignore[attr-defined]
    clock, known = Clock(), {}
    writer, reader = Writer(path), Reader(path)
    kept = Responses(writer, reader, clock)

    async def run() -> None:
        nonlocal writer
        for kind, *rest in steps:  # type: ignore[attr-defined]
            if kind == "put":
                owner, id, body, ttl_s = rest
                await kept.put(owner, id, body, ttl_s)
                known[owner, id] = (body, clock.now + ttl_s)
            elif kind == "delete":
                was_there = known.pop(tuple(rest), (b"", 0.0))[1] > clock.now
                assert await kept.delete(*rest) is was_there
            elif kind == "wait":
                clock.now += rest[0]
            elif kind == "flush":  # the writer's thread runs to its end, and another takes over
                writer.start()
                writer.close()
                writer = kept._writer = Writer(path)
            for owner in ("ann", "bob"):
                for id in ("r1", "r2", "r3"):
                    body, expires_at = known.get((owner, id), (None, 0.0))
                    assert await kept.get(owner, id) == (body if expires_at > clock.now else None)

    asyncio.run(run())
    reader.close()


async def test_a_foreign_id_looks_like_none(ledger: Ledger) -> None:
    await ledger.responses.put("ann", "r", b"mine", 60)
    assert await ledger.responses.get("bob", "r") is None
    assert await ledger.responses.delete("bob", "r") is False
    assert await ledger.responses.get("ann", "r") == b"mine"


async def test_a_restart_keeps_what_was_stored(where: Where) -> None:
    first = Ledger(where)
    first.open(0.0)
    await first.responses.put("ann", "r", b"kept", 60)
    first.close()
    second = Ledger(where)
    second.open(0.0)
    assert await second.responses.get("ann", "r") == b"kept"
    second.close()


async def test_a_store_that_is_full_says_so_and_keeps_what_it_had(where: Where) -> None:
    writer, reader = Writer(where, num_queued_max=1), Reader(where)
    kept = Responses(writer, reader)
    await kept.put("ann", "r", b"first", 60)
    for body in (b"second", b"x" * (responses.BODY_BYTES_MAX + 1)):
        with pytest.raises(Overloaded, match="store"):
            await kept.put("ann", "r", body, 60)
    with pytest.raises(Overloaded, match="deleted"):
        await kept.delete("ann", "r")
    assert await kept.get("ann", "r") == b"first"
    reader.close()


def test_who_keeps_too_much_loses_the_own_oldest_and_nobody_else_any(
    where: Where, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(responses, "NUM_OWNER_MAX", 3)
    monkeypatch.setattr(responses, "OWNER_BYTES_MAX", 100)
    connection = connect_or_say(where)
    rows = [("ann", f"a{at}", b"x", at) for at in range(5)] + [("bob", f"b{at}", b"x" * 40, at) for at in range(3)]
    rows += [("cat", "c0", b"x", 0)]
    columns = "owner, id, body, stored_at, expires_at"
    for row in rows:
        connection.execute(f"INSERT INTO responses ({columns}) VALUES (?, ?, ?, ?, 9e9)", row)
    for write in responses.sweep(0.0):
        connection.execute(write.sql, write.values)
    assert {id for (id,) in connection.execute("SELECT id FROM responses")} == {"a2", "a3", "a4", "b1", "b2", "c0"}
    connection.close()


async def test_a_broken_ledger_is_said_and_not_taken_for_an_empty_one(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"no database" * 1000)
    reader = Reader(path)
    with pytest.raises(Overloaded, match="cannot be read") as said:
        await Responses(Writer(path), reader).get("ann", "r")
    assert isinstance(said.value.__cause__, store_of(path).failures)
    reader.close()
