"""Memory that native code works on: aligned, zeroed, taken from the system only when touched."""

from __future__ import annotations

import mmap

import numpy as np
from numpy.typing import NDArray


def aligned_words(count: int) -> NDArray[np.int64]:
    """Zeroed 64-bit words that start on a cache line."""
    return zeroed_bytes(8 * count).view(np.int64)[:count]


def zeroed_bytes(num_bytes: int) -> NDArray[np.uint8]:
    """Zeroed bytes that start on a page; untouched pages cost nothing."""
    size = max(mmap.PAGESIZE, -(-num_bytes // mmap.PAGESIZE) * mmap.PAGESIZE)
    return np.frombuffer(mmap.mmap(-1, size), np.uint8)
