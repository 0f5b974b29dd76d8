"""Reading the ledger beside its writer: one thread, one connection that cannot write, never on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from isochrone.errors import Overloaded

from .database import Connection, Store, Where, store_of

Rows = list[tuple[Any, ...]]


class Reader:
    """One ledger, which may not be there yet."""

    def __init__(self, where: Where | Store) -> None:
        self._store = store_of(where)
        self._connection: Connection | None = None
        self._aside = ThreadPoolExecutor(1, "isochrone-ledger-read")

    async def rows(self, sql: str, values: Sequence[Any] = ()) -> Rows:
        """What a query gives; nothing while there is no ledger.  Raises Overloaded when it cannot be read."""
        return await asyncio.get_running_loop().run_in_executor(self._aside, self.rows_now, sql, values)

    def rows_now(self, sql: str, values: Sequence[Any] = ()) -> Rows:
        """`rows`, for whoever may wait."""
        try:
            if self._connection is None:
                self._connection = self._store.connect_readable()
            if self._connection is None:
                return []
            return self._connection.execute(sql, values).fetchall()
        except self._store.failures as error:
            self._drop()
            if self._store.is_unmade(error):
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
