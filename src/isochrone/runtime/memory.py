"""Memory that native code works on: aligned, zeroed, taken from the system only when touched."""

from __future__ import annotations

import mmap

import numpy as np
from numpy.typing import NDArray


def aligned_words(count: int) -> NDArray[np.int64]:
    """Zeroed 64-bit words that start on a cache line."""
    return zeroed_bytes(8 * count).view(np.int64)[:count]


HUGE_PAGE_BYTES = 2 << 20


def zeroed_bytes(num_bytes: int, *, huge: bool = False) -> NDArray[np.uint8]:
    """Zeroed bytes that start on a page; untouched pages cost nothing.

    huge  ask for pages of 2 MiB: for memory that is large and read at random
    """
    unit = HUGE_PAGE_BYTES if huge else mmap.PAGESIZE
    size = max(unit, -(-num_bytes // unit) * unit)
    # Private: a forked child must not write what the parent's workers read, and shared memory gets no huge pages.
    memory = mmap.mmap(-1, size + (unit if huge else 0), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    data = np.frombuffer(memory, np.uint8)
    if not huge:
        return data
    memory.madvise(mmap.MADV_HUGEPAGE)
    return data[-data.ctypes.data % unit :][:size]
