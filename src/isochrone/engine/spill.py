"""Cold blocks of the KV cache on disk: what memory had no place for and reading is faster than computing again.

    evicted ──write, in a thread──► a slot of the file ──read, checked──► a page again
                                     └─ the longest unused gives its slot to the next

The file has no name: nobody else can open it, and whatever ends the process, its space comes back.  The index is in
memory.  A block that is missing, short or does not match its checksum is computed again: a spill can lose time, never
an answer.
"""

from __future__ import annotations

import os
import tempfile
import zlib
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isochrone.errors import BadConfig
from isochrone.units import format_bytes

U8 = NDArray[np.uint8]
NUM_PENDING_MAX = 8
"""Blocks that wait to be written; the next is not kept: a slow disk must not slow the steps."""


class Spill:
    """Blocks by key, in a file of at most max_bytes.  Used by the engine's thread.

    num_written, num_read   blocks so far
    num_skipped  that came while the disk was behind;  num_broken: that could not be written, or not be read back whole
    """

    def __init__(self, directory: Path, max_bytes: int, block_bytes: int) -> None:
        self._block_bytes, self._num_slots = block_bytes, max_bytes // block_bytes
        if self._num_slots < 1:
            raise BadConfig(
                f"A spill of {format_bytes(max_bytes)} holds no block of {format_bytes(block_bytes)}.",
                fix="Raise --kv-spill, or leave it out.",
            )
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=directory, buffering=0)
        except OSError as error:
            raise BadConfig(
                f"Cold blocks cannot be kept in {directory}: {error.strerror}.",
                fix="Free the disk, or leave --kv-spill out.",
            ) from error
        self._slots: OrderedDict[bytes, int] = OrderedDict()
        self._checksums: dict[bytes, int] = {}
        self._pending: dict[bytes, Future[int]] = {}
        self._free = list(range(self._num_slots - 1, -1, -1))
        self._writer = ThreadPoolExecutor(1, "isochrone-spill")
        self.num_written = self.num_read = self.num_skipped = self.num_broken = 0

    def __contains__(self, key: bytes) -> bool:
        return key in self._slots

    def __len__(self) -> int:
        return len(self._slots)

    def put(self, key: bytes, block: U8) -> None:
        """Keep a block, u8 [block_bytes], which nobody changes from now on."""
        self._settle()
        if key in self._slots:
            self._slots.move_to_end(key)
            return
        if len(self._pending) >= NUM_PENDING_MAX:
            self.num_skipped += 1
            return
        if not self._free:
            self._drop(next(iter(self._slots)))
        slot = self._slots[key] = self._free.pop()
        self._pending[key] = self._writer.submit(self._write, slot, block)

    def get(self, key: bytes) -> U8 | None:
        """The block, or None when it is not there or not whole."""
        if key not in self._slots:
            return None
        self._wait(key)
        slot = self._slots.get(key)
        if slot is None:
            return None
        block = np.empty(self._block_bytes, np.uint8)
        try:
            num_bytes = os.preadv(self._file.fileno(), [block.data], slot * self._block_bytes)
        except OSError:
            num_bytes = 0  # counted below: a disk that fails is a block that must be computed again
        if num_bytes != self._block_bytes or zlib.crc32(block.data) != self._checksums[key]:
            self.num_broken += 1
            self._drop(key)
            return None
        self._slots.move_to_end(key)
        self.num_read += 1
        return block

    def flush(self) -> None:
        """Wait until everything is written."""
        for key in list(self._pending):
            self._wait(key)

    def close(self) -> None:
        self._writer.shutdown(wait=True, cancel_futures=True)
        self._file.close()

    def _write(self, slot: int, block: U8) -> int:
        data, at = block.data, slot * self._block_bytes
        while data:
            num_bytes = os.pwrite(self._file.fileno(), data, at)
            data, at = data[num_bytes:], at + num_bytes
        return zlib.crc32(block.data)

    def _settle(self) -> None:
        for key in [key for key, future in self._pending.items() if future.done()]:
            self._wait(key)

    def _wait(self, key: bytes) -> None:
        future = self._pending.pop(key, None)
        if future is None:
            return
        try:
            self._checksums[key] = future.result()
            self.num_written += 1
        except OSError:  # a full disk: the block is not kept, and is counted
            self.num_broken += 1
            self._drop(key)

    def _drop(self, key: bytes) -> None:
        future = self._pending.pop(key, None)
        if future is not None and not future.cancel():
            future.exception()  # its slot is used again only after it was written
        self._free.append(self._slots.pop(key))
        self._checksums.pop(key, None)
