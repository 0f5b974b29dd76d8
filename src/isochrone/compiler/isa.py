"""Dot products out of what an instruction set offers.

Everything that differs between instruction sets lives here and in targets.py; kernels say `dot_groups` and look the
same for all.
"""

from __future__ import annotations

from collections.abc import Sequence

from .ir import Range, Type
from .targets import TARGETS, Target, available_targets, choose_target, cpu_flags
from .tile import Tile, Value

__all__ = [
    "ACTIVATION_MAX", "TARGETS", "Target", "available_targets", "chain_length", "choose_target", "cpu_flags",
    "dot_groups",
]  # fmt: skip


def dot_groups(t: Tile, codes: Sequence[Value], activations: Sequence[Value], start: Value | None) -> Value:
    """start + the sum over groups of four u8 x s8 products into each i32 lane.

    codes        u8 vectors of 4 x lanes, each with its range
    activations  one i32 per group holding four s8, in every lane; |a| <= 127
    """
    match t.target.dot:
        case "vnni":
            total = t.zeros(activations[0].type) if start is None else start
            for code, activation in zip(codes, activations, strict=True):
                total = t.emit("dpbusd", total.type, (total, code, t.bitcast(activation, code.type)))
            return total
        case "maddubs":
            total = _maddubs_dot(t, codes, activations)
        case _:
            total = _portable_dot(t, codes, activations)
    return total if start is None else total + start


ACTIVATION_MAX = 127


def chain_length(code_max: int) -> int:
    """How many pairs of products u8 <= code_max times s8 fit one signed 16-bit lane."""
    return Range.of_signed(16).hi // (2 * code_max * ACTIVATION_MAX)


def _maddubs_dot(t: Tile, codes: Sequence[Value], activations: Sequence[Value]) -> Value:
    code_max = max(_known(code).hi for code in codes)
    length = chain_length(code_max)
    if length == 0:  # 8-bit codes: two chains of nibbles, the upper one counted sixteen times
        low = [_nibble(t, code, upper=False) for code in codes]
        high = [_nibble(t, code, upper=True) for code in codes]
        return _maddubs_dot(t, low, activations) + (_maddubs_dot(t, high, activations) << 4)
    lanes = activations[0].type.lanes
    ones = t.const(1, Type("i16", 2 * lanes))
    total: Value | None = None
    for first in range(0, len(codes), length):
        chain: Value | None = None
        for code, activation in zip(codes[first : first + length], activations[first : first + length], strict=True):
            bound = 2 * code_max * ACTIVATION_MAX
            pair = t.emit(
                "maddubs", Type("i16", 2 * lanes), (code, t.bitcast(activation, code.type)), range=Range(-bound, bound)
            )
            chain = pair if chain is None else chain + pair
        assert chain is not None and _known(chain).fits(16), "an int16 chain could overflow"
        wide = t.emit("maddwd", Type("i32", lanes), (chain, ones))
        total = wide if total is None else total + wide
    assert total is not None
    return total


def _portable_dot(t: Tile, codes: Sequence[Value], activations: Sequence[Value]) -> Value:
    total: Value | None = None
    for code, activation in zip(codes, activations, strict=True):
        words = t.bitcast(code, activation.type)
        for byte in range(4):
            unsigned = (words >> (8 * byte)) & 0xFF
            signed = t.binary("ashr", activation << (24 - 8 * byte), 24)
            total = unsigned * signed if total is None else total + unsigned * signed
    assert total is not None
    return total


def _nibble(t: Tile, code: Value, *, upper: bool) -> Value:
    words = t.bitcast(code, Type("i32", code.type.lanes // 4))
    return t.bitcast((words >> (4 if upper else 0)) & 0x0F0F0F0F, code.type, Range(0, 15))


def _known(value: Value) -> Range:
    assert value.range is not None, "the range of an operand is not known"
    return value.range
