"""The form weights are run in: which format each tensor gets, and its stored rows brought to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..errors import BadConfig, BadModel
from ..graph.formats import BF16, BLOCK, COLUMNS, F32, Q4_1, Q8_0, Plain, Quantised, WeightFormat
from . import blocks, pack
from .blocks import U8
from .checkpoint import Checkpoint
from .dequantise import widen
from .quantise import quantise_rows
from .tensor import StoredTensor

Wanted = Literal["auto", "f32", "bf16", "int8", "int4"]

_MATRIX_FORMATS: dict[str, WeightFormat] = {"f32": F32, "bf16": BF16, "int8": Q8_0, "int4": Q4_1}
_EDGE_NAMES = ("token_embd.weight", "output.weight", "embed_tokens.weight", "lm_head.weight")
"""Embedding and output head, as GGUF and as Hugging Face call them (there with or without `model.` before it)."""
CHUNK_ITEMS = 1 << 17
"""Numbers brought to another format at a time: no f32 copy of a matrix exists, and temporaries stay in cache."""


def choose_formats(checkpoint: Checkpoint, wanted: str) -> dict[str, WeightFormat]:
    """The format each tensor is to be run in, by its name in the file.

    auto keeps what the file stores.  int4 keeps embedding and output head at int8, where 4 bits cost most;
    vectors (norms, biases) keep their numbers in every form.
    Raises BadConfig when the file's weights are quantised already, or their rows do not fill blocks.
    """
    if wanted not in get_args(Wanted):
        raise BadConfig(f"{wanted!r} is no form of weights.", fix=f"Choose one of {', '.join(get_args(Wanted))}.")
    if wanted == "auto":
        return {name: tensor.format for name, tensor in checkpoint.tensors.items()}
    quantised = sorted({t.format.name for t in checkpoint.tensors.values() if isinstance(t.format, Quantised)})
    if quantised:
        raise BadConfig(
            f"{checkpoint.path} is quantised already ({', '.join(quantised)}); rounding it again to {wanted} "
            "would lose quality.",
            fix="Leave `--weights` at auto, or take the unquantised model.",
        )
    return {name: _choose(tensor, wanted) for name, tensor in checkpoint.tensors.items()}


def _choose(tensor: StoredTensor, wanted: str) -> WeightFormat:
    if len(tensor.shape) != 2:
        return tensor.format
    format = _MATRIX_FORMATS[wanted]
    if wanted == "int4" and tensor.name.removeprefix("model.") in _EDGE_NAMES:
        format = Q8_0
    if isinstance(format, Quantised) and tensor.k % BLOCK:
        raise BadConfig(
            f"{tensor.name} has rows of {tensor.k} values, which do not fill the blocks of {BLOCK} of {wanted}.",
            fix="Choose `--weights bf16` or `--weights f32`.",
        )
    return format


def converted_rows(tensor: StoredTensor, format: WeightFormat, order: NDArray[np.intp] | None = None) -> Iterator[U8]:
    """The tensor's rows in another format, some at a time: u8 [a multiple of 16 but for the last, row_bytes].

    order  i [rows]: the stored row that each row is taken from, where the two differ
    Raises BadModel where numbers to be rounded are not finite.
    """
    step = max(1, CHUNK_ITEMS // (COLUMNS * tensor.k)) * COLUMNS
    for start in range(0, len(tensor.data), step):
        chosen = slice(start, start + step)
        yield _convert(tensor, tensor.data[chosen if order is None else order[chosen]], format)


def _convert(tensor: StoredTensor, rows: U8, format: WeightFormat) -> U8:
    if format == tensor.format:
        return rows
    assert isinstance(tensor.format, Plain), f"{tensor.name}: {tensor.format.name} is never rounded again"
    values = widen(tensor.format, rows)
    if not np.isfinite(values).all():
        raise BadModel(
            f"Tensor {tensor.name} holds numbers that are not finite.", fix="Take another copy of the model."
        )
    if isinstance(format, Quantised):
        return quantise_rows(values, format)
    return narrow(format, values)


def narrow(format: Plain, values: blocks.F32) -> U8:
    """f32 [rows, k] as stored rows, rounded to nearest, ties to even."""
    if format.name == "f32":
        return values.view(np.uint8)
    if format.name == "f16":
        return values.astype("<f2").view(np.uint8)
    bits = values.view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    return rounded.astype("<u2").view(np.uint8)


def pack_tensor(tensor: StoredTensor, format: WeightFormat, out: U8, order: NDArray[np.intp] | None = None) -> None:
    """Bring a tensor to a format and into tiles.

    out    u8 [num_tiles(rows), tile_bytes]
    order  i [rows]: the stored row that each row is taken from, where the two differ
    """
    first = 0
    for rows in converted_rows(tensor, format, order):
        tiles = out[first : first + pack.num_tiles(len(rows))]
        if isinstance(format, Plain):
            pack.pack_plain(format, rows, tiles)
        else:
            pack.pack_rows(format, rows, tiles)
        first += len(tiles)
