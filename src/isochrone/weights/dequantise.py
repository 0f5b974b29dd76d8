"""Stored rows back to numbers: the definition that packing, kernels and the reference are held to."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..graph.formats import SUPERBLOCK, Plain, Quantised, WeightFormat
from .blocks import F16, F32, U8, Parts, Scales, split


def dequantise(format: WeightFormat, raw: U8) -> F32:
    """The numbers that stored rows stand for.

    raw      u8 [rows, row_bytes], in the file's own layout
    returns  f32 [rows, k]
    """
    if isinstance(format, Plain):
        return widen(format, raw)
    return values_of(format, split(format, raw))


def widen(format: Plain, raw: U8) -> F32:
    """Plain rows u8 [rows, row_bytes] as f32 [rows, k]; exact."""
    raw = np.ascontiguousarray(raw)
    if format.name == "bf16":
        return (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)
    return raw.view("<f4" if format.name == "f32" else "<f2").astype(np.float32)


def values_of(format: Quantised, parts: Parts) -> F32:
    """f32 [rows, k] of rows taken apart: `scale · (code - zero) + minimum`, each step rounded to f32."""
    # Scales that are not finite give values that are not, quietly: whoever runs the model sees and says it.
    with np.errstate(invalid="ignore", over="ignore"):
        return _values(format, parts)


def _values(format: Quantised, parts: Parts) -> F32:
    rows, k = parts.codes.shape
    codes = parts.codes.reshape(rows, -1, format.sub)
    if format.codebook is not None:
        steps = np.array(format.codebook, np.float32)[codes]
    else:
        steps = codes.astype(np.float32) - np.float32(format.zero)
    values = steps * _scales(format, parts.scales, parts.super_scales)[..., None]
    if parts.minima is not None:
        minima = _scales(format, parts.minima, parts.super_minima)[..., None]
        values = values + minima if format.minimum == "f16" else values - minima
    return np.asarray(values.reshape(rows, k), np.float32)


def _scales(format: Quantised, scales: Scales, supers: F16 | None) -> NDArray[np.float32]:
    """f32 [rows, k / sub]: the small integers times their superblock's number, where the format has one."""
    wide = scales.astype(np.float32)
    if supers is None:
        return wide
    return wide * np.repeat(supers.astype(np.float32), SUPERBLOCK // format.sub, axis=1)
