"""Dot products out of what an instruction set offers.

Everything that differs between instruction sets lives here and in targets.py; kernels say `dot_rows` and look the same
for all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .ir import Range, Type
from .targets import TARGETS, Target, available_targets, choose_target, cpu_flags
from .tile import Tile, Value

__all__ = [
    "ACTIVATION_MAX", "TARGETS", "Activations", "Codes", "Target", "available_targets", "chain_length",
    "choose_target", "cpu_flags", "dot_rows",
]  # fmt: skip


Codes = Callable[[int], Value]
"""The codes of a group: u8 x (4 lanes), with their range; decoded where it is called."""
Activations = Callable[[int, int], Value]
"""(row, group) -> i32 lanes, each the four s8 of that group; |a| <= 127."""

ACTIVATION_MAX = 127


def dot_rows(
    t: Tile, codes: Codes, activations: Activations, groups: Sequence[int], starts: Sequence[Value | None]
) -> list[Value]:
    """For each row: start + the sum over groups of four u8 x s8 products into each i32 lane.

    Group by group, all rows of one before the next: a decoded group lives as short as it can, and the rows'
    chains are independent.  Integer sums are exact, so every target gives the same.
    """
    match t.target.dot:
        case "vnni":
            return _vnni_dots(t, codes, activations, groups, starts)
        case "maddubs":
            totals = _maddubs_dots(t, codes, activations, groups, len(starts))
        case _:
            totals = _portable_dots(t, codes, activations, groups, len(starts))
    return [total if start is None else total + start for total, start in zip(totals, starts, strict=True)]


def chain_length(code_max: int) -> int:
    """How many pairs of products u8 <= code_max times s8 fit one signed 16-bit lane."""
    return Range.of_signed(16).hi // (2 * code_max * ACTIVATION_MAX)


def _vnni_dots(
    t: Tile, codes: Codes, activations: Activations, groups: Sequence[int], starts: Sequence[Value | None]
) -> list[Value]:
    zero = t.zeros(Type("i32", t.target.lanes))
    totals = [zero if start is None else start for start in starts]
    for group in groups:
        code = codes(group)
        for m, total in enumerate(totals):
            activation = t.bitcast(activations(m, group), code.type)
            totals[m] = t.emit("dpbusd", total.type, (total, code, activation))
    return totals


def _maddubs_dots(
    t: Tile, codes: Codes, activations: Activations, groups: Sequence[int], num_rows: int
) -> list[Value]:
    totals: list[Value | None] = [None] * num_rows
    pending = list(groups)
    while pending:
        chains: list[list[Value | None]] = []
        length, taken = len(pending), 0
        while taken < min(length, len(pending)):
            parts = _parts(t, codes(pending[taken]))
            if not chains:
                chains = [[None] * len(parts) for _ in range(num_rows)]
            length = chain_length(max(_known(part).hi for part in parts))
            for m in range(num_rows):
                activation = activations(m, pending[taken])
                for which, part in enumerate(parts):
                    chains[m][which] = _add_pair(t, chains[m][which], part, activation)
            taken += 1
        pending = pending[taken:]
        for m, row in enumerate(chains):
            total, wide = totals[m], _widen(t, row)
            totals[m] = wide if total is None else total + wide
    return [total for total in totals if total is not None]


def _parts(t: Tile, code: Value) -> list[Value]:
    """Codes whose products fit a 16-bit lane: 8-bit ones as two nibbles, the upper one counted sixteen times."""
    if chain_length(_known(code).hi) > 0:
        return [code]
    words = t.bitcast(code, Type("i32", code.type.lanes // 4))
    return [t.bitcast((words >> shift) & 0x0F0F0F0F, code.type, Range(0, 15)) for shift in (0, 4)]


def _add_pair(t: Tile, chain: Value | None, code: Value, activation: Value) -> Value:
    bound = 2 * _known(code).hi * ACTIVATION_MAX
    type = Type("i16", code.type.lanes // 2)
    pair = t.emit("maddubs", type, (code, t.bitcast(activation, code.type)), range=Range(-bound, bound))
    total = pair if chain is None else chain + pair
    assert _known(total).fits(16), "an int16 chain could overflow"
    return total


def _widen(t: Tile, chains: Sequence[Value | None]) -> Value:
    """Sums of neighbouring 16-bit lanes as i32."""
    wide = []
    for chain in chains:
        assert chain is not None
        ones = t.const(1, chain.type)
        wide.append(t.emit("maddwd", Type("i32", chain.type.lanes // 2), (chain, ones)))
    return wide[0] if len(wide) == 1 else wide[0] + (wide[1] << 4)


def _portable_dots(
    t: Tile, codes: Codes, activations: Activations, groups: Sequence[int], num_rows: int
) -> list[Value]:
    totals: list[Value | None] = [None] * num_rows
    for group in groups:
        words = t.bitcast(codes(group), Type("i32", t.target.lanes))
        for m in range(num_rows):
            activation = activations(m, group)
            for byte in range(4):
                signed = t.binary("ashr", activation << (24 - 8 * byte), 24)
                product = ((words >> (8 * byte)) & 0xFF) * signed
                total = totals[m]
                totals[m] = product if total is None else total + product
    return [total for total in totals if total is not None]


def _known(value: Value) -> Range:
    assert value.range is not None, "the range of an operand is not known"
    return value.range
