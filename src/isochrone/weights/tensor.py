"""One tensor of a checkpoint: its shape, how it is stored, and a view of its bytes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..graph.formats import WeightFormat
from .blocks import F32, U8
from .dequantise import dequantise


@dataclass(frozen=True, slots=True, eq=False)
class StoredTensor:
    """A tensor as a file keeps it.

    shape         NumPy's order: the row, along which blocks lie, comes last
    raw           u8 [rows, row_bytes], read only, a view of the mapped file
    rotary_heads  heads whose rows the file keeps in interleaved rotary pairs (d, d + 1); 0 where it does not
    """

    name: str
    shape: tuple[int, ...]
    format: WeightFormat
    raw: U8
    rotary_heads: int = 0

    @property
    def data(self) -> U8:
        """u8 [rows, row_bytes] with rotary pairs in halves (d, d + half): a view of the file, else an ordered copy."""
        if not self.rotary_heads:
            return self.raw
        stored = self.raw if len(self.shape) > 1 else self.raw.reshape(self.shape[0], -1)
        return halves_from_pairs(stored, self.rotary_heads).reshape(self.raw.shape)

    @property
    def k(self) -> int:
        """Elements of a row."""
        return self.shape[-1] if self.shape else 1

    @property
    def num_bytes(self) -> int:
        """Bytes in the file."""
        return self.raw.nbytes

    def values(self) -> F32:
        """f32 [shape]: the numbers it stands for."""
        return dequantise(self.format, self.data).reshape(self.shape)


def halves_from_pairs(rows: U8, heads: int) -> U8:
    """Order a head's rows for the half-split rotation: row 2 j + h of a head becomes row h · half + j.

    rows  u8 [heads · head_dim, row_bytes], as llama.cpp's converter permutes Q and K of the llama family
    """
    split = rows.reshape(heads, -1, 2, rows.shape[1])
    return np.ascontiguousarray(split.swapaxes(1, 2)).reshape(rows.shape)
