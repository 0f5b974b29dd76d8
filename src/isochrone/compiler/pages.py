"""Pages of the KV cache: how keys and values of 32 positions of one KV head lie, how they get there and come back.

Both types keep the elements that one 32-bit lane holds next to each other, so that a vector load gives 16
positions (keys) or 16 dimensions (values) and no shuffle is needed:

    bf16   keys    [2 groups of 16 positions][head_dim / 2][16 positions][2]
           values  [16 pairs of positions][head_dim][2]
    int8   keys    [2 groups of 16 positions][head_dim / 4][16 positions][4], then scale f32 [32 positions]
           values  [8 fours of positions][head_dim][4], then scale f32 [32 positions]
"""

from __future__ import annotations

from collections.abc import Sequence

from .ir import FLOAT, Type
from .isa import Target
from .table import KvType, elements_per_lane, scales_offset, values_offset
from .tile import Cell, Tile, Value

_F, _I = Type("f32", 16), Type("i32", 16)


def query_bytes(target: Target, kv: KvType = "bf16") -> int:
    """Bytes of one element of a query: bf16 where a bf16 dot reads the page, else f32."""
    return 2 if has_bf16_dot(target, kv) else 4


def has_bf16_dot(target: Target, kv: KvType) -> bool:
    """Whether queries and weights are rounded to bf16 and multiplied two at a time."""
    return target.bf16_dot and kv == "bf16"


def store_key(t: Tile, kv: KvType, dim: int, head: Value, page: Value, slot: Value) -> Value:
    """Append a key, f32 [dim] at `head`, at position `slot` of a page.

    Returns lanes that are NaN where something was not finite; the page itself stays finite, because it outlives its
    sequence, and 0 * NaN would poison the next one.
    """
    per_lane = elements_per_lane(kv)
    group_bytes = 64 * dim // per_lane
    at = t.at(page, (slot // 16) * group_bytes + (slot % 16) * 4)
    trouble, rows = _codes(t, kv, dim, head, t.at(page, slot * 4), scales_offset(dim))
    for d, codes in rows:
        lanes = t.bitcast(codes, Type("i32", 16 // per_lane))
        for lane in range(16 // per_lane):
            t.store(at, t.extract(lanes, lane), (d // per_lane + lane) * 64)
    return trouble


def store_value(t: Tile, kv: KvType, dim: int, value: Value, page: Value, slot: Value) -> Value:
    """Append a value, f32 [dim], likewise."""
    per_lane = elements_per_lane(kv)
    values = t.at(page, values_offset(dim, kv))
    at = t.at(values, (slot // per_lane) * (4 * dim) + (slot % per_lane) * (4 // per_lane))
    trouble, rows = _codes(t, kv, dim, value, t.at(values, slot * 4), scales_offset(dim))
    for d, codes in rows:
        for lane in range(16):
            t.store(at, t.extract(codes, lane), 4 * (d + lane))
    return trouble


def _codes(
    t: Tile, kv: KvType, dim: int, x: Value, scale_at: Value, scale_offset: int
) -> tuple[Value, list[tuple[int, Value]]]:
    """Sixteen stored elements at a time, and what was not finite; int8 writes its scale."""
    trouble, numbers = t.zeros(_F), []
    for d in range(0, dim, 16):
        value = t.load(x, _F, 4 * d)
        trouble = trouble + value * 0.0
        bound = t.compare("ole", t.absolute(value), t.const(3.0e38, _F))
        numbers.append(t.select(bound, value, t.zeros(_F)))
    if kv == "bf16":
        return trouble, [(16 * i, t.to_bf16(value)) for i, value in enumerate(numbers)]
    largest = t.absolute(numbers[0])
    for value in numbers[1:]:
        largest = t.maximum(largest, t.absolute(value))
    most = t.largest(largest)
    t.store(scale_at, most * (1.0 / 127.0), scale_offset)
    one, zero = t.const(127.0, FLOAT), t.const(0.0, FLOAT)
    inverse = t.splat(t.select(t.compare("ogt", most, 0.0), one / most, zero), 16)
    rounded = [t.cast("fptosi", t.round_even(value * inverse), "i32") for value in numbers]
    return trouble, [(16 * i, t.cast("trunc", code, "i8")) for i, code in enumerate(rounded)]


def load_scales(t: Tile, half: Value, group: int, dim: int) -> Value:
    """int8: the scales of 16 positions; `half` is where a page's keys (or values) start."""
    return t.load(half, _F, scales_offset(dim) + 64 * group)


def accumulate(
    t: Tile, kv: KvType, cells: Sequence[Sequence[Cell]], words: Sequence[Value], at: Sequence[Value]
) -> None:
    """cells[m][v] += the sum over a lane's elements e of words[v].e * scalar[m].e

    words  i32 lanes as a page holds them
    at     address of each row's scalars: bf16 or f32 (query_bytes), as many as a lane has elements
    """
    lanes = words[0].type.lanes
    if has_bf16_dot(t.target, kv):
        wide = Type("bf16", 2 * lanes)
        for row_at, row in zip(at, cells, strict=True):
            scalar = t.bitcast(t.broadcast(row_at, lanes, 0, "i32"), wide)
            for word, cell in zip(words, row, strict=True):
                cell.set(t.emit("dpbf16", cell.type, (cell.get(), t.bitcast(word, wide), scalar)))
        return
    for element in range(elements_per_lane(kv)):
        numbers = [_element(t, kv, word, element) for word in words]
        for row_at, row in zip(at, cells, strict=True):
            scalar = t.broadcast(row_at, lanes, 4 * element)
            for number, cell in zip(numbers, row, strict=True):
                cell.set(t.fma(number, scalar, cell.get()))


def _element(t: Tile, kv: KvType, word: Value, element: int) -> Value:
    """One element of every lane as f32."""
    floats = Type("f32", word.type.lanes)
    if kv == "bf16":
        return t.bitcast(word << 16 if element == 0 else word & -65536, floats)
    return t.to_f32(t.binary("ashr", word << (24 - 8 * element), 24))
