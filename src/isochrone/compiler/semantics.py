"""What every operation of the tile IR means, in NumPy: the same bits as compiled code, lane by lane.

A value is an array of its lanes, also when it has one.  Integers are signed arrays that wrap; bf16 is its bits as
u16; i1 is bool.  f32 arithmetic rounds once per operation, to nearest even, and keeps subnormal numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .ir import Instr, Type

Lanes = NDArray[Any]

DTYPES: dict[str, Any] = {
    "i1": np.bool_, "i8": np.int8, "i16": np.int16, "i32": np.int32, "i64": np.int64,
    "f16": np.float16, "bf16": np.uint16, "f32": np.float32,
}  # fmt: skip
_UNSIGNED = {"i8": np.uint8, "i16": np.uint16, "i32": np.uint32, "i64": np.uint64}


class Undefined(Exception):
    """The operation has no defined result for these operands (LLVM may do anything)."""


def evaluate(instr: Instr, args: Sequence[Lanes], types: Sequence[Type]) -> Lanes:
    """The result of an operation that touches neither memory nor cells.

    Raises Undefined for a division by zero and for a shift by more than the width.
    """
    if instr.op in _BINARY:
        return _BINARY[instr.op](args[0], args[1])
    if instr.op in _UNARY:
        return _UNARY[instr.op](args[0])
    return _OTHER[instr.op](instr, args, types)


def constant(value: float, type: Type) -> Lanes:
    """One value in every lane; integers by their bits, so that 255 is an i8."""
    if type.kind == "bf16":
        return np.full(type.lanes, _narrow_bf16(np.array([value], np.float32))[0])
    if type.is_float or type.kind == "i1":
        return np.full(type.lanes, value, DTYPES[type.kind])
    bits = int(value) & ((1 << type.lane_bits) - 1)
    return np.full(type.lanes, bits, _UNSIGNED[type.kind]).view(DTYPES[type.kind])


def unsigned(a: Lanes) -> Lanes:
    """The same bits as unsigned integers."""
    return a if a.dtype == np.bool_ else a.view(f"u{a.itemsize}")


def fused_multiply_add(a: Lanes, b: Lanes, c: Lanes) -> Lanes:
    """a * b + c in f32, rounded once.

    The product of two f32 is exact in f64.  The sum is rounded to odd (Boldo & Melquiond 2008): where it is not
    exact, the last bit is set, so that the final rounding to 24 bits sees on which side of a tie it lies.
    """
    product, addend = a.astype(np.float64) * b.astype(np.float64), c.astype(np.float64)
    total = product + addend
    back = total - product
    error = (product - (total - back)) + (addend - back)
    bits = total.view(np.int64)
    is_inexact = np.isfinite(total) & (error != 0) & (bits & 1 == 0)
    # One step towards the error: away from zero when it has the sign of the sum.
    step = np.where((error > 0) == (total > 0), 1, -1)
    return (bits + np.where(is_inexact, step, 0)).view(np.float64).astype(np.float32)


def dot_bf16(total: Lanes, a: Lanes, b: Lanes) -> Lanes:
    """vdpbf16ps: total + a[2i+1] * b[2i+1], then + a[2i] * b[2i], each step rounded once to nearest even.

    Subnormal inputs and results count as zero, whatever the control register says.
    """
    x, y = _flush(_widen_bf16(a)), _flush(_widen_bf16(b))
    total = _flush(total)
    for lane in (1, 0):
        total = _flush(fused_multiply_add(x[lane::2], y[lane::2], total))
    return total


def _flush(a: Lanes) -> Lanes:
    return np.where(np.abs(a) < np.float32(2.0**-126), np.copysign(np.float32(0), a), a)


def _widen_bf16(a: Lanes) -> Lanes:
    return (a.astype(np.uint32) << 16).view(np.float32)


def _narrow_bf16(a: Lanes) -> Lanes:
    """vcvtneps2bf16: to nearest even; subnormal numbers count as zero, NaN stays NaN."""
    bits = _flush(a).view(np.uint32)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    return np.where(np.isnan(a), bits >> 16 | 0x40, rounded).astype(np.uint16)


# --- integers ---------------------------------------------------------------------------------------------------------


def _shift_by(b: Lanes) -> Lanes:
    if (unsigned(b) >= 8 * b.itemsize).any():
        raise Undefined(f"shifts by {b.tolist()}, more than the width")
    return b


def _divide(a: Lanes, b: Lanes) -> Lanes:
    if (b == 0).any():
        raise Undefined("divides by zero")
    return np.asarray(a // b)


def _divide_signed(a: Lanes, b: Lanes) -> Lanes:
    """Towards zero, where NumPy rounds down."""
    down = _divide(a, b)
    return np.asarray(down + ((down * b != a) & ((a < 0) != (b < 0)))).astype(a.dtype)


def _remainder(a: Lanes, b: Lanes) -> Lanes:
    return np.asarray(unsigned(a) - _divide(unsigned(a), unsigned(b)) * unsigned(b))


def _add_pairs(products: Lanes) -> Lanes:
    return np.asarray(products.reshape(-1, 2).sum(axis=1, dtype=np.int32))


def _dot_bytes(_: Instr, args: Sequence[Lanes], __: Sequence[Type]) -> Lanes:
    """vpdpbusd: four u8 x s8 products into each i32 lane, wrapping."""
    total, codes, activations = args
    products = unsigned(codes).astype(np.int32) * activations.astype(np.int32)
    return np.asarray(total + products.reshape(-1, 4).sum(axis=1, dtype=np.int32))


def _multiply_add_bytes(a: Lanes, b: Lanes) -> Lanes:
    """vpmaddubsw: pairs of u8 x s8 products, their sum saturated to i16."""
    sums = _add_pairs(unsigned(a).astype(np.int32) * b.astype(np.int32))
    return np.clip(sums, -32768, 32767).astype(np.int16)


def _multiply_add_words(a: Lanes, b: Lanes) -> Lanes:
    """vpmaddwd: pairs of s16 x s16 products into each i32 lane."""
    return _add_pairs(a.astype(np.int32) * b.astype(np.int32))


def _look_up_bytes(table: Lanes, index: Lanes) -> Lanes:
    """vpshufb: within each 16 bytes, table[index & 15], or 0 where the index has its high bit set."""
    rows = np.take_along_axis(table.reshape(-1, 16), (index & 15).reshape(-1, 16).astype(np.intp), axis=1)
    return np.where(index < 0, 0, rows.reshape(-1)).astype(np.int8)


# --- conversions ------------------------------------------------------------------------------------------------------


def _cast(instr: Instr, args: Sequence[Lanes], types: Sequence[Type]) -> Lanes:
    (a,), (type,), dtype = args, types, DTYPES[instr.type.kind]
    match instr.op:
        case "zext" | "uitofp":
            return unsigned(a).astype(dtype)
        case "sext" if type.kind == "i1":
            return -a.astype(dtype)
        case "trunc" if instr.type.kind == "i1":
            return (a & 1).astype(np.bool_)
        case "fptosi":
            return _to_integer(a, dtype)
        case "fpext" if type.kind == "bf16":
            return _widen_bf16(a)
        case "fptrunc" if instr.type.kind == "bf16":
            return _narrow_bf16(a)
    return a.astype(dtype)


def _to_integer(a: Lanes, dtype: Any) -> Lanes:
    """Towards zero.  What fits no integer becomes the smallest one, as vcvttps2dq has it."""
    info = np.iinfo(dtype)
    wide = np.trunc(a.astype(np.float64))
    fits = (wide >= info.min) & (wide <= info.max)
    return np.where(fits, np.where(fits, wide, 0).astype(dtype), dtype(info.min))


def _bitcast(instr: Instr, args: Sequence[Lanes], types: Sequence[Type]) -> Lanes:
    raw = args[0]
    if types[0].kind == "i1":
        raw = np.packbits(raw, bitorder="little")
    if instr.type.kind == "i1":
        return np.unpackbits(raw.view(np.uint8), bitorder="little").astype(np.bool_)
    return raw.view(DTYPES[instr.type.kind])


# --- lanes ------------------------------------------------------------------------------------------------------------


def _select(_: Instr, args: Sequence[Lanes], __: Sequence[Type]) -> Lanes:
    return np.where(args[0], args[1], args[2])


def _shuffle(instr: Instr, args: Sequence[Lanes], _: Sequence[Type]) -> Lanes:
    lanes: Lanes = np.concatenate([args[0], args[1]])[np.array(instr.attrs, np.intp)]
    return lanes


def _words(instr: Instr, _: Sequence[Lanes], __: Sequence[Type]) -> Lanes:
    words = np.array([int(word) & 0xFFFFFFFF for word in instr.attrs], np.uint32).view(np.int32)
    return np.tile(words, instr.type.lanes // len(words))


def _splat(instr: Instr, args: Sequence[Lanes], _: Sequence[Type]) -> Lanes:
    return np.repeat(args[0], instr.type.lanes)


def _extract(instr: Instr, args: Sequence[Lanes], _: Sequence[Type]) -> Lanes:
    lane = int(instr.attrs[0])
    return args[0][lane : lane + 1]


def _compare(instr: Instr, args: Sequence[Lanes], _: Sequence[Type]) -> Lanes:
    relation, (a, b) = str(instr.attrs[0]), args
    if relation in ("uno", "ord"):
        unordered = np.isnan(a) | np.isnan(b)
        return np.asarray(unordered if relation == "uno" else ~unordered)
    if instr.op == "icmp" and relation[0] == "u":
        a, b = unsigned(a), unsigned(b)
    return np.asarray(_RELATIONS[relation.lstrip("su") if instr.op == "icmp" else relation](a, b))


_RELATIONS: dict[str, Callable[[Lanes, Lanes], Any]] = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
    "oeq": np.equal, "une": np.not_equal, "olt": np.less, "ole": np.less_equal, "ogt": np.greater,
    "oge": np.greater_equal, "one": lambda a, b: (a < b) | (a > b),
}  # fmt: skip

_BINARY: dict[str, Callable[[Lanes, Lanes], Lanes]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply,
    "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
    "shl": lambda a, b: np.left_shift(a, _shift_by(b)),
    "lshr": lambda a, b: np.right_shift(unsigned(a), unsigned(_shift_by(b))).view(a.dtype),
    "ashr": lambda a, b: np.right_shift(a, _shift_by(b)),
    "sdiv": _divide_signed,
    "udiv": lambda a, b: _divide(unsigned(a), unsigned(b)).view(a.dtype),
    "urem": lambda a, b: _remainder(a, b).view(a.dtype),
    "smin": np.minimum, "smax": np.maximum,
    "fadd": np.add, "fsub": np.subtract, "fmul": np.multiply, "fdiv": np.divide,
    "fmin": lambda a, b: np.where(a < b, a, b), "fmax": lambda a, b: np.where(a > b, a, b),
    "maddubs": _multiply_add_bytes, "maddwd": _multiply_add_words, "bytes_table": _look_up_bytes,
}  # fmt: skip

_UNARY: dict[str, Callable[[Lanes], Lanes]] = {"sqrt": np.sqrt, "roundeven": np.rint, "fabs": np.abs}

_OTHER: dict[str, Callable[[Instr, Sequence[Lanes], Sequence[Type]], Lanes]] = {
    **dict.fromkeys(("zext", "sext", "trunc", "sitofp", "uitofp", "fptosi", "fpext", "fptrunc"), _cast),
    "bitcast": _bitcast,
    "const": lambda instr, _, __: constant(float(instr.attrs[0]) if instr.type.is_float else int(instr.attrs[0]),
                                           instr.type),
    "words": _words,
    "iota": lambda instr, _, __: np.arange(instr.type.lanes, dtype=np.int32),
    "cycles": lambda *_: np.zeros(1, np.int64),
    "splat": _splat, "extract": _extract, "shuffle": _shuffle, "select": _select, "icmp": _compare, "fcmp": _compare,
    "fma": lambda _, args, __: fused_multiply_add(*args),
    "dpbf16": lambda _, args, __: dot_bf16(*args),
    "dpbusd": _dot_bytes,
}  # fmt: skip

OPS = frozenset(_BINARY) | frozenset(_UNARY) | frozenset(_OTHER)
