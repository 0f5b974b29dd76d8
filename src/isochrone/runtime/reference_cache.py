"""KV caches of the reference: one that grows, for whole sequences, and one in pages, as the engine sees it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .step import F32, I32

KvType = Literal["f32", "bf16"]


def as_kv(x: F32, kv_type: KvType) -> F32:
    """x as the cache would give it back: bf16 keeps 8 bits of mantissa, ties to even."""
    if kv_type == "f32":
        return x
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF0000)
    return np.asarray(np.where(np.isfinite(x), rounded.view(np.float32), x), np.float32)


class GrowingCache:
    """Keys and values of the same sequences, step after step."""

    def __init__(self, kv_type: KvType = "f32") -> None:
        self._kv_type = kv_type
        self._starts: Sequence[int] = (0, 0)
        self._kept: dict[tuple[int, int], tuple[F32, F32]] = {}

    def begin(self, starts: Sequence[int]) -> None:
        """Begin a step: sequence s owns tokens starts[s] .. starts[s + 1]."""
        self._starts = starts

    def sequences(self) -> Iterator[tuple[int, int]]:
        """The token range of each sequence."""
        return pairwise(self._starts)

    def append(self, layer: int, sequence: int, k: F32, v: F32) -> tuple[F32, F32]:
        """Store new keys and values; return all so far."""
        k, v = as_kv(k, self._kv_type), as_kv(v, self._kv_type)
        if (layer, sequence) in self._kept:
            keys, values = self._kept[layer, sequence]
            k, v = np.concatenate([keys, k]), np.concatenate([values, v])
        self._kept[layer, sequence] = k, v
        return k, v


class PagedCache:
    """Keys and values in pages that the engine hands out.

    widths  layer -> kv_heads · head_dim
    """

    def __init__(self, widths: dict[int, int], num_pages: int, page_tokens: int, kv_type: KvType) -> None:
        self._page_tokens, self._kv_type = page_tokens, kv_type
        slots = num_pages * page_tokens
        self._keys = {layer: np.zeros((slots, width), np.float32) for layer, width in widths.items()}
        self._values = {layer: np.zeros((slots, width), np.float32) for layer, width in widths.items()}
        self._ranges: list[tuple[int, int]] = []
        self._slots: list[I32] = []
        self._first: list[int] = []

    def read_pages(self, pages: Sequence[int]) -> NDArray[np.uint8]:
        """Everything in these pages, layer after layer, u8 [pages, page_bytes]."""
        tables = [*self._keys.values(), *self._values.values()]
        return np.concatenate([t.reshape(-1, self._page_tokens * t.shape[1])[list(pages)] for t in tables], 1).view(
            np.uint8
        )

    def write_pages(self, pages: Sequence[int], data: NDArray[np.uint8]) -> None:
        """Put back what `read_pages` gave."""
        numbers, at = np.ascontiguousarray(data).view(np.float32), 0
        for table in (*self._keys.values(), *self._values.values()):
            width = self._page_tokens * table.shape[1]
            table.reshape(-1, width)[list(pages)] = numbers[:, at : at + width]
            at += width

    def begin(self, positions: I32, starts: I32, pages: I32) -> None:
        """Begin a step: where every position of every sequence lives."""
        self._ranges = [(int(a), int(b)) for a, b in pairwise(starts)]
        self._slots, self._first = [], []
        for sequence, (start, stop) in enumerate(self._ranges):
            first, last = (int(positions[start]), int(positions[stop - 1])) if stop > start else (0, -1)
            assert last - first == stop - start - 1, f"sequence {sequence} has a gap in its positions"
            at = np.arange(last + 1)
            page = pages[sequence, at // self._page_tokens]
            assert np.all(page >= 0), f"sequence {sequence} has no page for all of its {last + 1} positions"
            self._slots.append((page * self._page_tokens + at % self._page_tokens).astype(np.int32))
            self._first.append(first)

    def sequences(self) -> Iterator[tuple[int, int]]:
        """The token range of each sequence."""
        return iter(self._ranges)

    def append(self, layer: int, sequence: int, k: F32, v: F32) -> tuple[F32, F32]:
        """Store new keys and values in their pages; read all of the sequence back."""
        slots, new = self._slots[sequence], self._slots[sequence][self._first[sequence] :]
        keys, values = self._keys[layer], self._values[layer]
        keys[new], values[new] = as_kv(k, self._kv_type), as_kv(v, self._kv_type)
        return keys[slots], values[slots]
