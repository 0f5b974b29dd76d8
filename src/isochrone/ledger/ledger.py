"""The ledger of one server: one database, one writer, one reader, and a door for each kind of record."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from isochrone.errors import Overloaded

from . import receipts, responses, timelines
from .database import Where, cannot_open, store_of
from .keys import Keyring
from .reader import Reader
from .receipts import Receipts
from .responses import Responses
from .timelines import Timeline, Timelines
from .writer import SWEEP_AFTER_S, Write, Writer, WriterStats

if TYPE_CHECKING:
    from .decisions import AttemptRecord, DecisionRecord, Decisions
    from .desk import Desk
    from .nodes import Nodes
    from .runs import Runs
    from .spending import Patience, Spending


class Ledger:
    """where  its file, or the URL of its database; None keeps it in a temporary directory for as long as it is open

    Opening reads the keys, and nothing else waits for the disk: the tables are made by the writer.  What only a fleet
    or a key with a spending limit needs is imported when it is first asked for: a start need not wait for it.
    """

    def __init__(
        self, where: Where | None = None, *, patience: Patience | None = None, sweep_after_s: float = SWEEP_AFTER_S
    ) -> None:
        self._own_directory: Path | None = None
        if where is None:
            import tempfile

            self._own_directory = Path(tempfile.mkdtemp(prefix="isochrone-ledger-"))
            where = self._own_directory / "ledger.db"
        self.path = where
        self._store = store_of(where)
        self._reader = Reader(self._store)
        self._writer = Writer(self._store, sweep=_sweep, sweep_after_s=sweep_after_s)
        self._patience = patience
        self.keys = Keyring(self._reader)
        self.responses = Responses(self._writer, self._reader)
        self.timelines = Timelines(self._writer)
        self.receipts = Receipts(self._writer)

    @cached_property
    def decisions(self) -> Decisions:
        """Why requests went where they went."""
        from .decisions import Decisions

        return Decisions(self._writer)

    @cached_property
    def spending(self) -> Spending:
        """What keys may spend."""
        from .spending import Patience, Spending

        return Spending(self._writer, self._desk, patience=self._patience or Patience())

    @cached_property
    def nodes(self) -> Nodes:
        """Nodes that announced themselves."""
        from .nodes import Nodes

        return Nodes(self._desk)

    @cached_property
    def runs(self) -> Runs:
        """Agents' runs."""
        from .runs import Runs

        return Runs(self._writer, self._desk, self._reader)

    @cached_property
    def _desk(self) -> Desk:
        from .desk import Desk

        return Desk(self._store)

    def open(self, now: float) -> None:
        """Read the keys and start writing; now  monotonic.

        Raises BadConfig when there is a ledger that cannot be read: who may ask would be unknown.
        """
        try:
            self.keys.refresh_now(now)
        except Overloaded:
            self._bring_up_to_date()  # of an older Isochrone, perhaps
            self.keys.refresh_now(now)
        self._writer.start()

    def _bring_up_to_date(self) -> None:
        try:
            self._store.connect().close()
        except self._store.failures as error:
            raise cannot_open(self._store, error) from error

    def stats(self) -> WriterStats:
        """How writing goes."""
        return self._writer.stats()

    @property
    def num_spending_refused(self) -> int:
        """Requests that were refused because of their key's money, since the start."""
        return self.spending.num_refused if "spending" in vars(self) else 0

    def close(self, seconds: float = 2.0) -> None:
        """Write what is queued, for at most so long, and give back what may still be spent."""
        made = vars(self)
        if self._writer.close(seconds) == 0 and "spending" in made:
            self.spending.end_now()
        if "_desk" in made:
            self._desk.close()
        self._reader.close()
        if self._own_directory is not None:
            import shutil

            shutil.rmtree(self._own_directory, ignore_errors=True)


def timelines_of(where: Where, id: str | None, *, num_wanted: int = 20) -> list[Timeline]:
    """For a command: the timelines of that id, newest first; without one, the latest.  Raises Overloaded."""
    with closing(Reader(where)) as reader:
        return timelines.find(reader, id) if id is not None else timelines.latest(reader, num_wanted)


def receipts_of(where: Where, id: str) -> list[bytes]:
    """For a command: the receipts of a request's answers, as they were recorded.  Raises Overloaded."""
    with closing(Reader(where)) as reader:
        return receipts.find(reader, id)


def decisions_of(where: Where, id: str) -> tuple[list[DecisionRecord], list[AttemptRecord]]:
    """For a command: a request's decisions, newest first, and its attempts as they began.  Raises Overloaded."""
    from . import decisions

    with closing(Reader(where)) as reader:
        return decisions.find(reader, id), decisions.attempts_of(reader, id)


def decided_between(
    where: Where, begin_at: float, end_at: float, *, policy: str | None = None
) -> Iterator[tuple[DecisionRecord, list[AttemptRecord]]]:
    """For `isochrone replay`: see `decisions.between`.  Raises Overloaded."""
    from . import decisions

    with closing(Reader(where)) as reader:
        yield from decisions.between(reader, begin_at, end_at, policy)


def _sweep(now: float) -> list[Write]:
    from . import decisions, runs

    return [
        *responses.sweep(now), receipts.sweep(now), *timelines.sweep(now), *decisions.sweep(now), runs.sweep(now),
    ]  # fmt: skip
