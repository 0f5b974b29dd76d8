"""Numbers into the blocks of Q8_0, Q4_0 and Q4_1, as ggml's reference rounds them, so that files compare."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..graph.formats import BLOCK, Quantised
from .blocks import BLOCK_DTYPES, F32, U8, Blocks


def quantise_rows(values: F32, format: Quantised) -> U8:
    """Round rows into stored blocks.

    values   f32 [rows, k], finite, k a multiple of 32
    format   q8_0, q4_0 or q4_1
    returns  u8 [rows, row_bytes]
    """
    rows, k = values.shape
    assert k % BLOCK == 0, f"rows of {k} values do not fill blocks of {BLOCK}"
    grouped = np.ascontiguousarray(values, np.float32).reshape(rows, k // BLOCK, BLOCK)
    blocks: Blocks = np.zeros(grouped.shape[:2], BLOCK_DTYPES[format.name])
    _QUANTISERS[format.name](grouped, blocks)
    return blocks.view(np.uint8)


def _inverse(scales: F32) -> F32:
    return np.divide(np.float32(1), scales, out=np.zeros_like(scales), where=scales != 0)


def _to_q8_0(values: F32, blocks: Blocks) -> None:
    scales = np.abs(np.maximum(values.max(-1), -values.min(-1))) / np.float32(127)
    scaled = values * _inverse(scales)[..., None]
    # Half away from zero, as C's roundf.  Adding a half instead would round 0.49999997 up.
    whole = np.trunc(scaled)
    rounded = whole + np.trunc((scaled - whole) * np.float32(2))
    blocks["d"], blocks["qs"] = scales, rounded.astype(np.int8).view(np.uint8)


def _to_q4_0(values: F32, blocks: Blocks) -> None:
    # The extreme, with its sign, takes code 0: the code that reaches farthest from the zero at 8.
    index = np.abs(values).argmax(-1)[..., None]
    scales = np.take_along_axis(values, index, -1)[..., 0] / np.float32(-8)
    codes = values * _inverse(scales)[..., None] + np.float32(8.5)
    blocks["d"], blocks["qs"] = scales, _nibbles(np.clip(codes, 0, 15).astype(np.uint8))


def _to_q4_1(values: F32, blocks: Blocks) -> None:
    low = values.min(-1)
    scales = (values.max(-1) - low) / np.float32(15)
    codes = (values - low[..., None]) * _inverse(scales)[..., None] + np.float32(0.5)
    blocks["d"], blocks["m"], blocks["qs"] = scales, low, _nibbles(np.clip(codes, 0, 15).astype(np.uint8))


def _nibbles(codes: U8) -> U8:
    return codes[..., :16] | codes[..., 16:] << np.uint8(4)


_QUANTISERS: dict[str, Callable[[F32, Blocks], None]] = {"q8_0": _to_q8_0, "q4_0": _to_q4_0, "q4_1": _to_q4_1}
