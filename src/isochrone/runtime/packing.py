"""Fill the plan's layout table from a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from ..compiler.lower import tile_bytes
from ..compiler.plan import PackedTensor, Plan
from ..graph.formats import COLUMNS, FORMATS
from ..weights.form import pack_tensor
from ..weights.tensor import StoredTensor

U8 = NDArray[np.uint8]
Progress = Callable[[int, int], None]
"""Called with (done, total), in bytes."""


def pack_weights(
    plan: Plan,
    tensors: Mapping[str, StoredTensor],
    orders: Mapping[str, NDArray[np.intp]],
    out: U8,
    progress: Progress,
) -> None:
    """Write every weight of the plan in kernel layout.

    tensors  canonical name -> stored tensor
    orders   canonical name -> the stored row of each row, where the two differ
    out      u8 [plan.weights_bytes], zeroed
    """
    done, total = 0, sum(t.num_bytes for t in plan.weights)
    for tensor in plan.weights:
        at = out[tensor.offset : tensor.offset + tensor.num_bytes]
        if tensor.kind == "vector":
            _pack_vectors(tensor, tensors, orders, at.view(np.float32))
        else:
            _pack_tiles(tensor, tensors, orders, at)
        done += tensor.num_bytes
        progress(done, total)


def _pack_tiles(
    tensor: PackedTensor, tensors: Mapping[str, StoredTensor], orders: Mapping[str, NDArray[np.intp]], out: U8
) -> None:
    format = FORMATS[tensor.format]
    tiles = out.reshape(-1, tile_bytes(format, tensor.k))
    first = 0
    for number, (name, columns) in enumerate(zip(tensor.sources, tensor.columns, strict=True)):
        count = columns // COLUMNS
        if tensor.interleave:
            packed = np.zeros((count, tiles.shape[1]), np.uint8)
            pack_tensor(tensors[name], format, packed, orders.get(name))
            tiles[number :: len(tensor.sources)] = packed
        else:
            pack_tensor(tensors[name], format, tiles[first : first + count], orders.get(name))
            first += count


def _pack_vectors(
    tensor: PackedTensor,
    tensors: Mapping[str, StoredTensor],
    orders: Mapping[str, NDArray[np.intp]],
    out: NDArray[np.float32],
) -> None:
    parts = []
    for name, columns in zip(tensor.sources, tensor.columns, strict=True):
        values = tensors[name].values().reshape(-1)
        order = orders.get(name)
        part = np.zeros(columns, np.float32)
        part[: values.size] = values if order is None else values[order]
        parts.append(part)
    if tensor.interleave:
        out[:] = np.stack([part.reshape(-1, COLUMNS) for part in parts], axis=1).reshape(-1)
    else:
        out[:] = np.concatenate(parts)
