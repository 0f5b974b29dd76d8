"""The ledger of one server: one file, one writer, one reader, and a door for each kind of record."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from isochrone.errors import Overloaded

from . import receipts, responses, timelines
from .database import cannot_open
from .keys import Keyring
from .reader import Reader
from .receipts import Receipts
from .responses import Responses
from .timelines import Timeline, Timelines
from .writer import Write, Writer, WriterStats


class Ledger:
    """path  its file; None keeps it in a temporary directory for as long as it is open

    Opening reads the keys, and nothing else waits for the disk: the file and its tables are made by the writer.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._own_directory: Path | None = None
        if path is None:
            self._own_directory = Path(tempfile.mkdtemp(prefix="isochrone-ledger-"))
            path = self._own_directory / "ledger.db"
        self.path = path
        self._reader = Reader(self.path)
        self._writer = Writer(self.path, sweep=_sweep)
        self.keys = Keyring(self._reader)
        self.responses = Responses(self._writer, self._reader)
        self.timelines = Timelines(self._writer)
        self.receipts = Receipts(self._writer)

    def open(self, now: float) -> None:
        """Read the keys and start writing; now  monotonic.

        Raises BadConfig when there is a ledger that cannot be read: who may ask would be unknown.
        """
        try:
            self.keys.refresh_now(now)
        except Overloaded as error:
            cause = error.__cause__ if isinstance(error.__cause__, sqlite3.Error) else error
            raise cannot_open(self.path, cause) from error
        self._writer.start()

    def stats(self) -> WriterStats:
        """How writing goes."""
        return self._writer.stats()

    def close(self, seconds: float = 2.0) -> None:
        """Write what is queued, for at most so long."""
        self._writer.close(seconds)
        self._reader.close()
        if self._own_directory is not None:
            shutil.rmtree(self._own_directory, ignore_errors=True)


def timelines_of(path: Path, id: str | None, *, num_wanted: int = 20) -> list[Timeline]:
    """For a command: the timelines of that id, newest first; without one, the latest.  Raises Overloaded."""
    with closing(Reader(path)) as reader:
        return timelines.find(reader, id) if id is not None else timelines.latest(reader, num_wanted)


def receipts_of(path: Path, id: str) -> list[bytes]:
    """For a command: the receipts of a request's answers, as they were recorded.  Raises Overloaded."""
    with closing(Reader(path)) as reader:
        return receipts.find(reader, id)


def _sweep(now: float) -> list[Write]:
    return [*responses.sweep(now), receipts.sweep(now), *timelines.sweep(now)]
