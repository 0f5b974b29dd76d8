"""Changes whose outcome somebody waits for, before a first token and never after one: a thread and a connection."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from isochrone.errors import IsochroneError, LedgerDown

from .database import BUSY_APART_S, CommitInDoubt, Connection, Store, Where, store_of

T = TypeVar("T")
_log = logging.getLogger("isochrone.ledger")


class Desk:
    """One ledger's.  What is asked of it is done in that order, each in a transaction of its own."""

    def __init__(self, where: Where | Store) -> None:
        self.store = store_of(where)
        self._connection: Connection | None = None
        self._aside = ThreadPoolExecutor(1, "isochrone-ledger-desk")

    async def run(self, work: Callable[[Connection], T]) -> T:
        """What `work` returns, committed.  Raises LedgerDown, and then it may be committed or not."""
        return await asyncio.get_running_loop().run_in_executor(self._aside, self.run_now, work)

    def run_now(self, work: Callable[[Connection], T]) -> T:
        """`run`, for whoever may wait and is alone."""
        troubles: tuple[type[Exception], ...] = (CommitInDoubt, *self.store.failures)
        try:
            if self._connection is None:
                self._connection = self.store.connect(busy_s=BUSY_APART_S, is_durable=True)
            with self.store.transaction(self._connection):
                return work(self._connection)
        except troubles as error:
            self._drop()
            _log.warning("ledger.down", extra={"facts": {"why": str(error).strip() or type(error).__name__}})
            raise LedgerDown(  # whose database it is, and where, is not the caller's to know
                f"The ledger cannot be written now ({type(error).__name__}).",
                fix="Ask again in a second; the server's log says more.", retry_after_s=1.0,
            ) from error
        except IsochroneError:
            raise
        except BaseException:
            self._drop()
            raise

    def close(self) -> None:
        self._aside.shutdown(wait=True, cancel_futures=True)
        self._drop()

    def _drop(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.close()
