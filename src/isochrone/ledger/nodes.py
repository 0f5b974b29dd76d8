"""Nodes that announced themselves to the fleet: every gateway of one ledger sees the same, by one clock."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from msgspec import Struct

from .database import Connection
from .desk import Desk

State: TypeAlias = Literal["live", "draining"]
FORGOTTEN_AFTER_S = 24 * 3600.0


class Node(Struct, frozen=True, kw_only=True):
    """One node.

    facts     what it said of itself, as JSON
    silent_s  seconds since it was last heard, when this was read
    """

    name: str
    url: str
    state: State
    facts: bytes
    silent_s: float


class Nodes:
    """Those of one ledger.  Everything raises LedgerDown while it cannot be reached."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def announce(self, name: str, url: str, facts: bytes) -> None:
        """It is here and takes requests: a new one, or one that comes back."""
        now = self._desk.store.now
        sql = (
            "INSERT INTO nodes (name, url, state, facts, joined_at, beat_at) VALUES (?, ?, 'live', ?, ?, ?) "
            "ON CONFLICT (name) DO UPDATE SET url = excluded.url, state = 'live', facts = excluded.facts, "
            "joined_at = excluded.joined_at, beat_at = excluded.beat_at"
        )

        def write(connection: Connection) -> None:
            at = now(connection)
            connection.execute(sql, (name, url, facts, at, at))

        await self._desk.run(write)

    async def beat(self, name: str, facts: bytes | None = None) -> bool:
        """It was heard.  facts  None: as they were.  False when it is not known (any more) and must announce itself."""
        sql = "UPDATE nodes SET beat_at = ?, facts = coalesce(?, facts) WHERE name = ?"
        store = self._desk.store
        return await self._desk.run(lambda connection: _changes(connection, sql, store.now(connection), facts, name))

    async def drain(self, name: str) -> bool:
        """It takes no new requests.  False when it is not known."""
        sql = "UPDATE nodes SET state = 'draining' WHERE name = ?"
        return await self._desk.run(lambda connection: _changes(connection, sql, name))

    async def leave(self, name: str) -> bool:
        """It is gone.  False when it is not known."""
        return await self._desk.run(lambda connection: _changes(connection, "DELETE FROM nodes WHERE name = ?", name))

    async def present(self, within_s: float) -> list[Node]:
        """Those that were heard within so many seconds, by name; who was silent for a day is forgotten."""
        sql = "SELECT name, url, state, facts, ? - beat_at FROM nodes WHERE beat_at >= ? ORDER BY name"

        def read(connection: Connection) -> list[Node]:
            at = self._desk.store.now(connection)
            connection.execute("DELETE FROM nodes WHERE beat_at < ?", (at - FORGOTTEN_AFTER_S,))
            return [_node(row) for row in connection.execute(sql, (at, at - within_s))]

        return await self._desk.run(read)


def _changes(connection: Connection, sql: str, *values: object) -> bool:
    return connection.execute(sql, values).rowcount > 0


def _node(row: tuple[Any, ...]) -> Node:
    name, url, state, facts, silent_s = row
    return Node(name=name, url=url, state=state, facts=facts, silent_s=max(0.0, silent_s))
