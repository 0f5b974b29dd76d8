"""One tensor of a checkpoint: its shape, how it is stored, and a view of its bytes."""

from __future__ import annotations

from dataclasses import dataclass

from ..graph.formats import WeightFormat
from .blocks import F32, U8
from .dequantise import dequantise


@dataclass(frozen=True, slots=True, eq=False)
class StoredTensor:
    """A tensor as a file keeps it.

    shape  NumPy's order: the row, along which blocks lie, comes last
    data   u8 [rows, row_bytes], read only, a view of the mapped file; rows in the file's order
    """

    name: str
    shape: tuple[int, ...]
    format: WeightFormat
    data: U8

    @property
    def k(self) -> int:
        """Elements of a row."""
        return self.shape[-1] if self.shape else 1

    @property
    def num_bytes(self) -> int:
        """Bytes in the file."""
        return self.data.nbytes

    def values(self) -> F32:
        """f32 [shape]: the numbers it stands for."""
        return dequantise(self.format, self.data).reshape(self.shape)
