"""Reading the ledger beside its writer: one thread, one connection that cannot write, never on the event loop."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from isochrone.errors import Overloaded

from .database import connect_readable

Rows = list[tuple[Any, ...]]


class Reader:
    """One ledger file, which may not be there yet."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._aside = ThreadPoolExecutor(1, "isochrone-ledger-read")

    async def rows(self, sql: str, values: Sequence[Any] = ()) -> Rows:
        """What a query gives; nothing while there is no ledger.  Raises Overloaded when it cannot be read."""
        return await asyncio.get_running_loop().run_in_executor(self._aside, self.rows_now, sql, values)

    def rows_now(self, sql: str, values: Sequence[Any] = ()) -> Rows:
        """`rows`, for whoever may wait."""
        try:
            if self._connection is None:
                self._connection = connect_readable(self._path)
            if self._connection is None:
                return []
            return self._connection.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            self._drop()
            if "no such table" in str(error):
                return []  # the writer is about to make it
            raise Overloaded(
                "The ledger cannot be read now.", fix="Ask again in a second.", retry_after_s=1.0
            ) from error

    def close(self) -> None:
        self._aside.shutdown(wait=True, cancel_futures=True)
        self._drop()

    def _drop(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.close()
