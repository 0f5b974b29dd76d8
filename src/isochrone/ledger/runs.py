"""Agents' runs: one deadline and one sum of money over many requests, which may come to several gateways."""

from __future__ import annotations

import threading
import time
from typing import Any

from msgspec import Struct

from .database import Connection
from .desk import Desk
from .money import nano_of, usd_of
from .reader import Reader
from .writer import Write, Writer

KEEP_S = 30 * 24 * 3600.0
_COLUMNS = "id, workflow, began_at, total_s, limit_nano_usd, spent_nano_usd, num_steps, facts, updated_at"


class Run(Struct, frozen=True, kw_only=True):
    """One run, as it was when it was read.

    age_s             seconds since it began, by the clock that all gateways share
    total_s, cost_usd what all of it may take and cost; None: not stated
    took_s            from its begin to the end of its last step so far
    facts             what a room above keeps with it, as JSON
    """

    id: str
    workflow: str
    age_s: float
    took_s: float
    total_s: float | None
    cost_usd: float | None
    spent_usd: float
    num_steps: int
    facts: bytes

    @property
    def left_s(self) -> float | None:
        """Seconds until its deadline, below zero after it."""
        return None if self.total_s is None else self.total_s - self.age_s

    @property
    def left_usd(self) -> float | None:
        """Money that it may still spend, below zero when it overspent."""
        return None if self.cost_usd is None else self.cost_usd - self.spent_usd


class Runs:
    """Those of one ledger.  A step's end is queued, and seen here at once, by other gateways as soon as written."""

    def __init__(self, writer: Writer, desk: Desk, reader: Reader) -> None:
        self._writer, self._desk, self._reader = writer, desk, reader
        self._unwritten: dict[tuple[str, str], list[int]] = {}  # steps, nano dollars
        self._lock = threading.Lock()  # of that table, which the writer's thread changes too

    async def begin(
        self, owner: str, id: str, *, workflow: str = "", total_s: float | None = None, cost_usd: float | None = None
    ) -> Run:
        """The run of that id, begun now unless it has begun.  Later limits can only tighten the earlier ones.

        Raises LedgerDown.
        """
        limit = None if cost_usd is None else nano_of(cost_usd)
        insert = (
            "INSERT INTO runs (owner, id, workflow, began_at, updated_at, total_s, limit_nano_usd, spent_nano_usd, "
            "num_steps, facts) VALUES (?, ?, ?, ?, ?, ?, ?, 0, 0, ?) ON CONFLICT (owner, id) DO NOTHING"
        )
        tighten = (
            "UPDATE runs SET total_s = CASE WHEN total_s < ? THEN total_s ELSE coalesce(?, total_s) END, "
            "limit_nano_usd = CASE WHEN limit_nano_usd < ? THEN limit_nano_usd ELSE coalesce(?, limit_nano_usd) END "
            "WHERE owner = ? AND id = ?"
        )

        def write(connection: Connection) -> Run:
            now = self._desk.store.now(connection)
            values = (owner, id, workflow, now, now, total_s, limit, b"{}")
            if connection.execute(insert, values).rowcount == 0 and (total_s is not None or limit is not None):
                connection.execute(tighten, (total_s, total_s, limit, limit, owner, id))
            found = connection.execute(f"SELECT {_COLUMNS} FROM runs WHERE owner = ? AND id = ?", (owner, id))
            return self._run(owner, found.fetchone(), now)

        return await self._desk.run(write)

    def step(self, owner: str, id: str, *, cost_usd: float, facts: bytes | None = None) -> bool:
        """A step is over.  facts  None: as they were.  False when the queue is full (which is counted)."""
        nano = nano_of(cost_usd)
        sql = (
            "UPDATE runs SET num_steps = num_steps + 1, spent_nano_usd = spent_nano_usd + ?, "
            f"updated_at = {self._desk.store.clock_sql}, "
            "facts = coalesce(?, facts) WHERE owner = ? AND id = ?"
        )
        self._count(owner, id, 1, nano)
        write = Write(
            sql, (nano, facts, owner, id), 256 + len(facts or b""),
            on_done=lambda: self._count(owner, id, -1, -nano),
        )  # fmt: skip
        if self._writer.put(write, is_owed=True):
            return True
        self._count(owner, id, -1, -nano)
        return False

    async def history(self, owner: str, workflow: str, num_wanted: int = 100) -> list[Run]:
        """A workflow's latest runs, newest first: its steps and times are learned from them.  Raises Overloaded."""
        sql = f"SELECT {_COLUMNS} FROM runs WHERE owner = ? AND workflow = ? ORDER BY updated_at DESC LIMIT ?"
        rows = await self._reader.rows(sql, (owner, workflow, num_wanted))
        return [self._run(owner, row, time.time()) for row in rows]

    def _count(self, owner: str, id: str, num_steps: int, nano: int) -> None:
        with self._lock:
            counts = self._unwritten.setdefault((owner, id), [0, 0])
            counts[0] += num_steps
            counts[1] += nano
            if counts[0] == 0:
                del self._unwritten[owner, id]

    def _run(self, owner: str, row: tuple[Any, ...], now: float) -> Run:
        id, workflow, began_at, total_s, limit, spent, num_steps, facts, updated_at = row
        more_steps, more_nano = self._unwritten.get((owner, str(id)), (0, 0))
        return Run(
            id=str(id), workflow=str(workflow), age_s=now - began_at, took_s=updated_at - began_at,
            total_s=total_s, cost_usd=None if limit is None else usd_of(limit),
            spent_usd=usd_of(spent + more_nano), num_steps=num_steps + more_steps, facts=facts,
        )  # fmt: skip


def sweep(now: float) -> Write:
    """Removes what was not touched for a month."""
    return Write("DELETE FROM runs WHERE updated_at < ?", (now - KEEP_S,))
