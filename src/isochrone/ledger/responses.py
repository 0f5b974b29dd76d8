"""Stored responses: each has an owner and a time to live, and exists for nobody else and for no longer.

`put` and `delete` do not wait for the disk, and the next `get` sees what they did; `get` reads in a thread of its own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from isochrone.errors import Overloaded

from .reader import Reader
from .writer import Write, Writer

TTL_S_MAX = 30 * 24 * 3600.0
BODY_BYTES_MAX = 16 << 20
NUM_OWNER_MAX = 4096
OWNER_BYTES_MAX = 256 << 20
"""What one owner may keep; beyond it that owner's oldest are forgotten within a minute, and never another's."""


class Responses:
    """Those of one ledger: what `/v1/responses` keeps."""

    def __init__(self, writer: Writer, reader: Reader, clock: Callable[[], float] = time.time) -> None:
        self._writer, self._reader, self._clock = writer, reader, clock
        self._unwritten: dict[tuple[str, str], tuple[bytes | None, float]] = {}  # None: deleted
        self._lock = threading.Lock()  # of that table, which the writer's thread clears

    async def put(self, owner: str, id: str, body: bytes, ttl_s: float) -> None:
        """Keep a body for so many seconds, in place of an earlier one of that id.

        Raises Overloaded when the ledger cannot take more: tell the caller, since nothing was kept.
        """
        expires_at = self._clock() + min(ttl_s, TTL_S_MAX)
        sql = (
            "INSERT INTO responses (owner, id, body, expires_at, stored_at) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (owner, id) DO UPDATE SET body = excluded.body, expires_at = excluded.expires_at, "
            "stored_at = excluded.stored_at"
        )
        if len(body) > BODY_BYTES_MAX or not self._write(owner, id, sql, body, expires_at):
            raise Overloaded(
                "The response cannot be stored now.", fix='Send "store": false, or ask again later.', retry_after_s=5.0
            )

    async def get(self, owner: str, id: str) -> bytes | None:
        """The body; None when this owner has none of that id (any more).  Raises Overloaded."""
        if state := self._unwritten.get((owner, id)):
            body, expires_at = state
            return body if expires_at > self._clock() else None
        rows = await self._reader.rows(
            "SELECT body FROM responses WHERE owner = ? AND id = ? AND expires_at > ?", (owner, id, self._clock())
        )
        return rows[0][0] if rows else None

    async def delete(self, owner: str, id: str) -> bool:
        """Forget it.  Returns whether there was one.  Raises Overloaded."""
        if await self.get(owner, id) is None:
            return False
        if not self._write(owner, id, "DELETE FROM responses WHERE owner = ? AND id = ?", None, float("inf")):
            raise Overloaded("The response cannot be deleted now.", fix="Ask again later.", retry_after_s=5.0)
        return True

    def _write(self, owner: str, id: str, sql: str, body: bytes | None, expires_at: float) -> bool:
        key, state = (owner, id), (body, expires_at)

        def forget() -> None:
            """In the writer's thread: from now on the table knows better, unless a later change is under way."""
            with self._lock:
                if self._unwritten.get(key) is state:
                    del self._unwritten[key]

        with self._lock:
            before = self._unwritten.get(key)
            self._unwritten[key] = state
        values = (owner, id) if body is None else (owner, id, body, expires_at, self._clock())
        if self._writer.put(Write(sql, values, num_bytes=256 + len(body or b""), on_done=forget)):
            return True
        with self._lock:
            del self._unwritten[key]
            if before is not None:
                self._unwritten[key] = before
        return False


def sweep(now: float) -> list[Write]:
    """Removes what has expired, and the oldest of owners who keep too much."""
    newest_first = "OVER (PARTITION BY owner ORDER BY stored_at DESC, expires_at DESC, id DESC)"
    ranked = (
        f"SELECT owner, id, row_number() {newest_first} AS num, sum(length(body)) {newest_first} AS num_bytes "
        "FROM responses"
    )
    excess = f"SELECT owner, id FROM ({ranked}) AS ranked WHERE num > ? OR num_bytes > ?"
    return [
        Write("DELETE FROM responses WHERE expires_at <= ?", (now,)),
        Write(f"DELETE FROM responses WHERE (owner, id) IN ({excess})", (NUM_OWNER_MAX, OWNER_BYTES_MAX)),
    ]
