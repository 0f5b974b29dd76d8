"""Receipts of answers, as the JSON that their callers got: kept for a month, for `isochrone verify ID`."""

from __future__ import annotations

import time

from .reader import Reader
from .writer import Write, Writer

KEEP_S = 30 * 24 * 3600.0


class Receipts:
    """Takes those of one server."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def record(self, owner: str, id: str, body: bytes) -> bool:
        """Hand one in; False when the ledger's queue is full (which is counted).  The caller has it anyway."""
        sql = "INSERT INTO receipts (id, owner, at, body) VALUES (?, ?, ?, ?)"
        return self._writer.put(Write(sql, (id, owner, time.time(), body), num_bytes=256 + len(body)))


def find(reader: Reader, id: str) -> list[bytes]:
    """Those of that request's answers, in the order in which they were recorded.  Raises Overloaded."""
    rows = reader.rows_now("SELECT body FROM receipts WHERE id = ? ORDER BY number LIMIT 256", (id,))
    return [body for (body,) in rows]


def sweep(now: float) -> Write:
    """Removes what is older than a month."""
    return Write("DELETE FROM receipts WHERE at < ?", (now - KEEP_S,))
