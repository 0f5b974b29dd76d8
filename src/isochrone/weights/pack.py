"""Stored rows into the layout that kernels read: tiles of 16 output columns, interleaved along K.

A tile holds the rows n .. n + 15 of a weight (columns of the product), block of 32 after block of 32:

    superblock   [ 16 x f16 d ] [ 16 x f16 dmin ]            only formats with super scales, then 8 blocks
    block        [ codes: `bits` vectors of 64 bytes ] [ scales: subs x 16 ] [ minima: subs x 16 ]
    vector       byte 4 c + i belongs to column c and k = 4 g + i, for each group g = 0 .. 7 it holds

Codes lie in bit planes 8, 4, 2 or 1 bits wide.  A plane of width w has w vectors, and slot t (bits w t ..) of
vector v holds group v + w t.  So a 4-bit block of GGUF is a transposition of 32-bit words, and nothing else.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..graph.formats import BLOCK, COLUMNS, SUPERBLOCK, Plain, Quantised, WeightFormat
from .blocks import F32, U8, Parts, as_blocks, split
from .dequantise import values_of, widen

PLANES: dict[int, tuple[tuple[int, int], ...]] = {
    2: ((2, 0),),
    3: ((2, 0), (1, 2)),
    4: ((4, 0),),
    5: ((4, 0), (1, 4)),
    6: ((4, 0), (2, 4)),
    8: ((8, 0),),
}
"""Bits of a code -> its planes in order: (width, the code bit its lowest bit comes from)."""

CHUNK_BYTES = 1 << 19
"""Stored bytes packed at a time: the temporaries of a chunk stay in the second-level cache."""

U32 = NDArray[np.uint32]
Tiles = NDArray[np.void]


def num_tiles(rows: int) -> int:
    """Tiles that hold this many rows, the last one padded."""
    return -(-rows // COLUMNS)


def packed_bytes(format: WeightFormat, rows: int, k: int) -> int:
    """Bytes of a packed weight [rows, k]."""
    tile = COLUMNS * k * format.item_bytes if isinstance(format, Plain) else format.tile_bytes(k)
    return num_tiles(rows) * tile


def pack_rows(format: Quantised, raw: U8, out: U8) -> None:
    """Pack quantised rows.

    raw  u8 [rows, row_bytes], as stored
    out  u8 [num_tiles(rows), tile_bytes], written whole; rows past the end get zero scales and minima
    """
    for tiles, chunk in _chunks(raw, out):
        _pack_tiles(format, chunk, tiles)


def pack_plain(format: Plain, raw: U8, out: U8) -> None:
    """Pack rows of plain numbers: a tile is [k][16] elements.

    raw  u8 [rows, k · item_bytes], as stored
    out  u8 [num_tiles(rows), 16 · k · item_bytes], written whole; rows past the end are zero
    """
    item = f"<u{format.item_bytes}"
    for tiles, chunk in _chunks(raw, out):
        elements = chunk.view(item).reshape(len(tiles), COLUMNS, -1)
        tiles.view(item).reshape(len(tiles), -1, COLUMNS)[...] = elements.transpose(0, 2, 1)


def unpack_rows(format: WeightFormat, packed: U8, rows: int) -> F32:
    """The numbers in packed tiles, f32 [rows, k]: the inverse of packing, for tests and for inspection."""
    if isinstance(format, Plain):
        return _unpack_plain(format, packed, rows)
    blocks, supers = _views(format, packed)
    parts = Parts(
        codes=_codes(format, blocks["codes"]),
        scales=_by_column(blocks["scales"]),
        minima=_by_column(blocks["minima"]) if format.minimum != "none" else None,
        super_scales=_by_column(supers["d"]) if supers is not None else None,
        super_minima=_by_column(supers["dmin"]) if supers is not None and format.minimum != "none" else None,
    )
    return values_of(format, parts)[:rows]


def _chunks(raw: U8, out: U8) -> list[tuple[U8, U8]]:
    """Pairs of (tiles of the output, the rows that fill them), the last rows padded with zeros."""
    step = max(1, CHUNK_BYTES // max(1, COLUMNS * raw.shape[1]))
    whole, pairs = raw.shape[0] // COLUMNS, []
    for start in range(0, whole, step):
        stop = min(start + step, whole)
        pairs.append((out[start:stop], np.ascontiguousarray(raw[start * COLUMNS : stop * COLUMNS])))
    if whole < len(out):
        last = np.zeros((COLUMNS, raw.shape[1]), np.uint8)
        last[: raw.shape[0] - whole * COLUMNS] = raw[whole * COLUMNS :]
        pairs.append((out[whole:], last))
    return pairs


def _views(format: Quantised, packed: U8) -> tuple[Tiles, Tiles | None]:
    """Packed tiles as (blocks [tiles, k / 32], superblocks [tiles, k / 256] or None)."""
    subs = BLOCK // format.sub
    scale = {"f16": "<f2", "super_u8": "u1", "super_i8": "i1"}[format.scale]
    fields: list[tuple[str, str, tuple[int, ...]]] = [("codes", "<u4", (format.bits, COLUMNS))]
    fields.append(("scales", scale, (subs, COLUMNS)))
    if format.minimum != "none":
        fields.append(("minima", "<f2" if format.minimum == "f16" else "u1", (subs, COLUMNS)))
    block = np.dtype(fields)
    assert block.itemsize == format.block_bytes, f"{format.name}: {block.itemsize} != {format.block_bytes}"
    if format.scale == "f16":
        return packed.view(block), None
    heads = [("d", "<f2", (COLUMNS,))] + ([("dmin", "<f2", (COLUMNS,))] if format.minimum != "none" else [])
    supers = packed.view(np.dtype([*heads, ("blocks", block, (SUPERBLOCK // BLOCK,))]))
    return supers["blocks"], supers


def _pack_tiles(format: Quantised, raw: U8, out: U8) -> None:
    """One chunk: raw u8 [tiles · 16, row_bytes] into out u8 [tiles, tile_bytes]."""
    blocks, supers = _views(format, out)
    if format.name in ("q4_0", "q4_1", "iq4_nl", "q8_0"):
        stored = as_blocks(format, raw)
        words = stored["qs"].view("<u4").reshape(len(out), COLUMNS, -1, format.bits)
        blocks["codes"] = words.transpose(0, 2, 3, 1)
        if format.name == "q8_0":
            blocks["codes"] ^= np.uint32(0x80808080)
        scales, minima, parts = stored["d"], stored["m"] if format.minimum != "none" else None, None
    else:
        parts = split(format, raw)
        scales, minima = parts.scales, parts.minima
        _write_planes(format, parts.codes, blocks["codes"])
    blocks["scales"] = _by_tile(scales, blocks["scales"].shape)
    if minima is not None:
        blocks["minima"] = _by_tile(minima, blocks["minima"].shape)
    if supers is not None and parts is not None:
        for name, values in (("d", parts.super_scales), ("dmin", parts.super_minima)):
            if values is not None:
                supers[name] = _by_tile(values, supers[name].shape)


def _by_tile(values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """[tiles · 16, n] -> [tiles, n, 16], shaped as the packed field wants it."""
    return values.reshape(shape[0], COLUMNS, -1).transpose(0, 2, 1).reshape(shape)


def _by_column(field: NDArray[Any]) -> NDArray[Any]:
    """[tiles, ..., 16] -> [tiles · 16, n]: the inverse of `_by_tile`."""
    rows = len(field) * COLUMNS
    return field.reshape(len(field), -1, COLUMNS).transpose(0, 2, 1).reshape(rows, -1)


def _write_planes(format: Quantised, codes: U8, out: U32) -> None:
    """Codes u8 [tiles · 16, k] into the words [tiles, ..., bits, 16] of the packed blocks."""
    words = codes.view("<u4").reshape(len(out), COLUMNS, -1, BLOCK // 4)
    groups = np.ascontiguousarray(words.transpose(0, 2, 3, 1))
    vectors = np.empty((*groups.shape[:2], format.bits, COLUMNS), np.uint32)
    first = 0
    for width, shift in PLANES[format.bits]:
        slots = groups.reshape(*groups.shape[:2], 8 // width, width, COLUMNS)
        mask = np.uint32(((1 << width) - 1) * 0x01010101)
        plane = (slots[:, :, 0] >> shift) & mask
        for slot in range(1, 8 // width):
            plane |= ((slots[:, :, slot] >> shift) & mask) << (width * slot)
        vectors[:, :, first : first + width] = plane
        first += width
    out[...] = vectors.reshape(out.shape)


def _codes(format: Quantised, words: U32) -> U8:
    """The words [tiles, ..., bits, 16] of packed blocks back to codes u8 [tiles · 16, k]."""
    vectors = words.reshape(len(words), -1, format.bits, COLUMNS)
    groups = np.zeros((*vectors.shape[:2], 8, COLUMNS), np.uint32)
    first = 0
    for width, shift in PLANES[format.bits]:
        mask = np.uint32(((1 << width) - 1) * 0x01010101)
        for slot in range(8 // width):
            plane = (vectors[:, :, first : first + width] >> (width * slot)) & mask
            groups[:, :, slot * width : (slot + 1) * width] |= plane << shift
        first += width
    codes = np.ascontiguousarray(groups.transpose(0, 3, 1, 2)).view(np.uint8)
    return codes.reshape(len(words) * COLUMNS, -1)


def _unpack_plain(format: Plain, packed: U8, rows: int) -> F32:
    item = f"<u{format.item_bytes}"
    elements = packed.view(item).reshape(len(packed), -1, COLUMNS).transpose(0, 2, 1)
    stored = np.ascontiguousarray(elements).view(np.uint8).reshape(len(packed) * COLUMNS, -1)
    return widen(format, stored)[:rows]
