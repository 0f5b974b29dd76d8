"""Arena offsets from lifetimes: two buffers share memory when no region needs both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ALIGNMENT = 4096


@dataclass(frozen=True, slots=True)
class Buffer:
    """Bytes that live from the region that first writes them to the last that reads them, both included."""

    name: str
    num_bytes: int
    first: int
    last: int


def place(buffers: Sequence[Buffer]) -> tuple[dict[str, int], int]:
    """Offset of each buffer, and the bytes of the arena.  Largest first, each at the lowest offset that is free."""
    offsets: dict[str, int] = {}
    placed: list[tuple[int, int, Buffer]] = []
    for buffer in sorted(buffers, key=lambda b: (-b.num_bytes, b.first, b.name)):
        size = -(-max(buffer.num_bytes, 1) // ALIGNMENT) * ALIGNMENT
        at = 0
        for start, end, other in sorted(placed, key=lambda p: p[0]):
            if other.last < buffer.first or buffer.last < other.first:
                continue
            if at + size <= start:
                break
            at = max(at, end)
        placed.append((at, at + size, buffer))
        offsets[buffer.name] = at
    return offsets, max((end for _, end, _ in placed), default=0)
