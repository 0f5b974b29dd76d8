"""Packed weight blocks to vectors of codes, scales and minima (layout: weights/pack.py, sizes: graph/formats.py).

A tile is 16 columns; a target with 8 lanes reads it in two halves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..graph.formats import BLOCK, COLUMNS, SUPERBLOCK, Quantised
from .ir import Range, Type
from .isa import Codes
from .tile import Tile, Value

GROUPS = 8
"""Groups of four neighbouring k in a block; one group is one dot instruction."""


@dataclass(frozen=True, slots=True)
class Block:
    """One block of 32 k of one half (or the whole) of a tile.

    codes    group -> 4 x lanes unsigned bytes, decoded where it is asked for
    order    the groups, those that share a stored vector next to each other
    scales   per sub-block: f32 lanes
    minima   per sub-block: f32 lanes to add, or None
    zero     integer to subtract from every code
    """

    codes: Codes
    order: Sequence[int]
    scales: Sequence[Value]
    minima: Sequence[Value] | None
    zero: int


@dataclass(frozen=True, slots=True)
class Super:
    """The f16 values that a K-quant keeps per superblock, as f32 lanes."""

    scale: Value
    minimum: Value | None


def num_halves(t: Tile) -> int:
    return COLUMNS // t.target.lanes


def load_super(t: Tile, format: Quantised, base: Value, half: int) -> Super:
    """The superblock's d and dmin; base is the superblock's first byte."""
    lanes = t.target.lanes
    scale = t.to_f32(t.load(base, Type("f16", lanes), 2 * lanes * half))
    if format.minimum != "super_u8":
        return Super(scale, None)
    return Super(scale, t.to_f32(t.load(base, Type("f16", lanes), 32 + 2 * lanes * half)))


def load_block(t: Tile, format: Quantised, base: Value, half: int, sup: Super | None) -> Block:
    """Load one block; base is its first byte."""
    codes, order = _codes(t, format, base, half), _ORDERS[_low_bits(format)]
    offset = COLUMNS * BLOCK * format.bits // 8
    subs = BLOCK // format.sub
    scales = [_load_factor(t, format.scale, base, offset, sub, half, sup.scale if sup else None) for sub in range(subs)]
    offset += subs * (32 if format.scale == "f16" else 16)
    minima = None
    if format.minimum == "f16":
        minima = [_load_factor(t, "f16", base, offset, sub, half, None) for sub in range(subs)]
    elif format.minimum == "super_u8":
        assert sup is not None and sup.minimum is not None
        negative = t.zeros(sup.minimum.type) - sup.minimum
        minima = [_load_factor(t, "super_u8", base, offset, sub, half, negative) for sub in range(subs)]
    if format.codebook is not None:
        codebook = format.codebook
        return Block(lambda group: _look_up(t, codes(group), codebook), order, scales, minima, format.true_zero)
    return Block(codes, order, scales, minima, format.zero)


def _load_factor(t: Tile, kind: str, base: Value, offset: int, sub: int, half: int, unit: Value | None) -> Value:
    lanes = t.target.lanes
    if kind == "f16":
        return t.to_f32(t.load(base, Type("f16", lanes), offset + 32 * sub + 2 * lanes * half))
    assert unit is not None
    small = t.load(base, Type("i8", lanes), offset + 16 * sub + lanes * half)
    wide = t.cast("sext" if kind == "super_i8" else "zext", small, "i32")
    return t.to_f32(wide) * unit


_ORDERS = {8: (0, 1, 2, 3, 4, 5, 6, 7), 4: (0, 4, 1, 5, 2, 6, 3, 7), 2: (0, 2, 4, 6, 1, 3, 5, 7)}


def _low_bits(format: Quantised) -> int:
    """Width of the plane that holds the lowest bits of a code."""
    return {2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 8: 8}[format.bits]


def _codes(t: Tile, format: Quantised, base: Value, half: int) -> Codes:
    low_bits = _low_bits(format)
    low_bytes, top = COLUMNS * BLOCK * low_bits // 8, Range(0, (1 << format.bits) - 1)

    def decode(group: int) -> Value:
        words = _low_plane(t, base, low_bits, half, group)
        if format.bits in (3, 5):
            words = words | _field(t, _load_words(t, base, low_bytes, half), group, 1, low_bits)
        elif format.bits == 6:
            plane = _load_words(t, base, low_bytes + 64 * (group & 1), half)
            words = words | _field(t, plane, 2 * (group >> 1), 2, low_bits)
        return t.bitcast(words, Type("i8", 4 * t.target.lanes), top)

    return decode


def _load_words(t: Tile, base: Value, offset: int, half: int) -> Value:
    return t.load(base, Type("i32", t.target.lanes), offset + 4 * t.target.lanes * half)


def _field(t: Tile, words: Value, shift: int, bits: int, to: int) -> Value:
    """Bits shift .. shift + bits of every byte, moved to bit `to`."""
    mask = ((1 << bits) - 1) * 0x01010101 << to
    moved = words >> (shift - to) if shift > to else words << (to - shift) if shift < to else words
    return moved & (mask if mask < 1 << 31 else mask - (1 << 32))


def _low_plane(t: Tile, base: Value, bits: int, half: int, group: int) -> Value:
    match bits:
        case 8:
            return _load_words(t, base, 64 * group, half)
        case 4:
            return _field(t, _load_words(t, base, 64 * (group & 3), half), 4 * (group >> 2), 4, 0)
        case _:
            return _field(t, _load_words(t, base, 64 * (group & 1), half), 2 * (group >> 1), 2, 0)


def _look_up(t: Tile, codes: Value, codebook: tuple[int, ...]) -> Value:
    """Codes to codebook values + 128, which is unsigned."""
    unsigned = [value + 128 for value in codebook]
    if t.target.dot == "portable":
        lanes = codes.type.lanes
        result = t.const(unsigned[0], codes.type)
        for code, value in enumerate(unsigned[1:], start=1):
            result = t.select(t.compare("eq", codes, code), t.const(value, Type("i8", lanes)), result)
    else:
        words = [int.from_bytes(bytes(unsigned[i : i + 4]), "little", signed=True) for i in range(0, 16, 4)]
        table = t.emit("words", Type("i32", codes.type.lanes // 4), (), tuple(words))
        result = t.emit("bytes_table", codes.type, (t.bitcast(table, codes.type), codes))
    return t.bitcast(t.bitcast(result, Type("i32", codes.type.lanes // 4)), codes.type, Range(0, max(unsigned)))


def blocks_per_super() -> int:
    return SUPERBLOCK // BLOCK
