"""The tile builder: kernels written in Python with operators, loops and vectors; ranges tracked on the way.

The author decides blocking, unrolling and loop order; the builder knows the range of every integer and picks
the instruction; LLVM takes the registers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .ir import FLOAT, I32, I64, PTR, Instr, Item, Kernel, Loop, Range, Type, When
from .verify import verify

if TYPE_CHECKING:
    from .isa import Target


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """A value of the kernel being built; operators append instructions."""

    tile: Tile
    number: int
    type: Type
    range: Range | None = None

    def __add__(self, other: Value | int | float) -> Value:
        return self.tile.binary("add", self, other)

    def __sub__(self, other: Value | int | float) -> Value:
        return self.tile.binary("sub", self, other)

    def __mul__(self, other: Value | int | float) -> Value:
        return self.tile.binary("mul", self, other)

    def __and__(self, other: Value | int) -> Value:
        return self.tile.binary("and", self, other)

    def __or__(self, other: Value | int) -> Value:
        return self.tile.binary("or", self, other)

    def __xor__(self, other: Value | int) -> Value:
        return self.tile.binary("xor", self, other)

    def __lshift__(self, other: Value | int) -> Value:
        return self.tile.binary("shl", self, other)

    def __rshift__(self, other: Value | int) -> Value:
        """Logical shift to the right."""
        return self.tile.binary("lshr", self, other)

    def __truediv__(self, other: Value | float) -> Value:
        return self.tile.binary("div", self, other)

    def __floordiv__(self, other: Value | int) -> Value:
        return self.tile.binary("udiv", self, other)

    def __mod__(self, other: Value | int) -> Value:
        return self.tile.binary("urem", self, other)


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """A mutable slot: what a loop carries.  LLVM turns it into a register."""

    tile: Tile
    number: int
    type: Type

    def get(self) -> Value:
        return self.tile.emit("get", self.type, (), (self.number,))

    def set(self, value: Value) -> None:
        assert value.type == self.type, f"cell {self.type} cannot take {value.type}"
        self.tile.effect("set", self.type, (value,), (self.number,))


class Tile:
    """Builds one kernel for one target."""

    def __init__(self, name: str, target: Target) -> None:
        self.name = name
        self.target = target
        self._types: list[Type] = []
        self._ranges: list[Range | None] = []
        self._cells: list[Type] = []
        self._blocks: list[list[Item]] = [[]]
        self._constants: dict[tuple[object, ...], Value] = {}
        self._scratch_bytes = 0
        self.ctx, self.args_table = self._fresh(PTR), self._fresh(PTR)
        self.begin, self.end, self.worker = self._fresh(I64), self._fresh(I64), self._fresh(I64)

    def finish(self) -> Kernel:
        """The finished kernel, verified."""
        assert len(self._blocks) == 1, "a loop or a condition is still open"
        kernel = Kernel(
            self.name, tuple(self._blocks[0]), tuple(self._types), tuple(self._ranges), tuple(self._cells),
            self._scratch_bytes,
        )  # fmt: skip
        verify(kernel)
        return kernel

    # --- plumbing -------------------------------------------------------------------------------------------------

    def _fresh(self, type: Type, range: Range | None = None) -> Value:
        self._types.append(type)
        self._ranges.append(range)
        return Value(self, len(self._types) - 1, type, range)

    def emit(
        self,
        op: str,
        type: Type,
        args: Sequence[Value] = (),
        attrs: tuple[int | float | str, ...] = (),
        range: Range | None = None,
    ) -> Value:
        """Append an instruction and return its value."""
        out = self._fresh(type, range)
        self._blocks[-1].append(Instr(op, out.number, type, tuple(a.number for a in args), attrs))
        return out

    def effect(self, op: str, type: Type, args: Sequence[Value], attrs: tuple[int | float | str, ...] = ()) -> None:
        """Append an instruction that gives no value."""
        self._blocks[-1].append(Instr(op, -1, type, tuple(a.number for a in args), attrs))

    def const(self, value: int | float, type: Type = I64) -> Value:
        """A constant in every lane.  Constants live at the top of the kernel, each once."""
        key = (value, type, isinstance(value, float))
        if key not in self._constants:
            range = None if type.is_float else Range(int(value), int(value))
            attr = float(value) if type.is_float else int(value)
            out = self._fresh(type, range)
            self._blocks[0].insert(len(self._constants), Instr("const", out.number, type, (), (attr,)))
            self._constants[key] = out
        return self._constants[key]

    def _lift(self, value: Value | int | float, type: Type) -> Value:
        return value if isinstance(value, Value) else self.const(value, type)

    def binary(self, op: str, a: Value, b: Value | int | float) -> Value:
        """a op b, element by element; float kinds take the float form of the operation."""
        b = self._lift(b, a.type)
        assert a.type == b.type, f"{op}: {a.type} and {b.type}"
        if a.type.is_float:
            return self.emit("f" + op, a.type, (a, b))
        return self.emit(op, a.type, (a, b), range=_range_of(op, a, b))

    # --- control --------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def loop(self, start: Value | int, stop: Value | int, step: int = 1) -> Iterator[Value]:
        """for index in range(start, stop, step)."""
        first, last = self._lift(start, I64), self._lift(stop, I64)
        index = self._fresh(I64)
        self._blocks.append([])
        yield index
        body = tuple(self._blocks.pop())
        self._blocks[-1].append(Loop(index.number, first.number, last.number, step, body))

    @contextlib.contextmanager
    def when(self, condition: Value) -> Iterator[None]:
        """Run the body only where the scalar condition holds."""
        self._blocks.append([])
        yield
        body = tuple(self._blocks.pop())
        self._blocks[-1].append(When(condition.number, body))

    def cell(self, initial: Value) -> Cell:
        """A mutable slot with a first value."""
        self._cells.append(initial.type)
        cell = Cell(self, len(self._cells) - 1, initial.type)
        cell.set(initial)
        return cell

    def items(self) -> contextlib.AbstractContextManager[Value]:
        """The loop over the work items this call was given."""
        return self.loop(self.begin, self.end)

    # --- memory ---------------------------------------------------------------------------------------------------

    def arg(self, slot: int, type: Type = I64) -> Value:
        """Word `slot` of the region's argument table."""
        return self.load(self.args_table, type, 8 * slot)

    def extent(self, slot: int, type: Type = I64) -> Value:
        """Word `slot` of the step's table."""
        return self.load(self.ctx, type, 8 * slot)

    def at(self, base: Value, offset: Value | int) -> Value:
        """The address `offset` bytes after base."""
        return self.emit("gep", PTR, (base, self._lift(offset, I64)))

    def load(self, base: Value, type: Type, offset: Value | int = 0, range: Range | None = None) -> Value:
        """Load from base + offset bytes; unaligned is fine.  `range` states what the data promises."""
        if isinstance(offset, int):
            return self.emit("load", type, (base,), (offset,), range=range)
        return self.emit("load", type, (self.at(base, offset),), (0,), range=range)

    def store(self, base: Value, value: Value, offset: Value | int = 0) -> None:
        """Store to base + offset bytes."""
        if isinstance(offset, int):
            self.effect("store", value.type, (base, value), (offset,))
        else:
            self.effect("store", value.type, (self.at(base, offset), value), (0,))

    def prefetch(self, base: Value, offset: int = 0) -> None:
        """Ask for the cache line at base + offset bytes; changes no value, and any address will do."""
        self.effect("prefetch", PTR, (base,), (offset,))

    def stack(self, num_bytes: int) -> Value:
        """A 64-byte aligned block on this call's stack."""
        offset, self._scratch_bytes = self._scratch_bytes, self._scratch_bytes + -(-num_bytes // 64) * 64
        return self.emit("stack", PTR, (), (offset,))

    # --- values ---------------------------------------------------------------------------------------------------

    def zeros(self, type: Type) -> Value:
        return self.const(0.0 if type.is_float else 0, type)

    def splat(self, scalar: Value, lanes: int) -> Value:
        """A scalar in every lane."""
        return self.emit("splat", Type(scalar.type.kind, lanes), (scalar,), range=scalar.range)

    def broadcast(self, base: Value, lanes: int, offset: Value | int = 0, kind: str = "f32") -> Value:
        """Load one scalar into every lane."""
        return self.splat(self.load(base, Type(kind), offset), lanes)

    def bitcast(self, value: Value, type: Type, range: Range | None = None) -> Value:
        """The same bits as another type."""
        assert value.type.num_bytes == type.num_bytes, f"bitcast {value.type} to {type}"
        return value if value.type == type else self.emit("bitcast", type, (value,), range=range)

    def cast(self, op: str, value: Value, kind: str) -> Value:
        """zext, sext, trunc, sitofp, uitofp, fptosi, fpext or fptrunc, lane by lane."""
        return self.emit(op, value.type.of(kind), (value,), range=_range_of_cast(op, value, Type(kind).lane_bits))

    def to_f32(self, value: Value) -> Value:
        """Any number as f32: exact for every kind but large i32."""
        match value.type.kind:
            case "f32":
                return value
            case "bf16":
                wide = self.cast("zext", self.bitcast(value, value.type.of("i16")), "i32") << 16
                return self.bitcast(wide, value.type.of("f32"))
            case "f16":
                return self.cast("fpext", value, "f32")
            case _:
                return self.cast("sitofp", value, "f32")

    def to_bf16(self, value: Value) -> Value:
        """f32 rounded to the nearest bf16, as i16 bits."""
        if self.target.bf16_dot:
            return self.bitcast(self.cast("fptrunc", value, "bf16"), value.type.of("i16"))
        bits = self.bitcast(value, value.type.of("i32"))
        rounded = bits + ((bits >> 16) & 1) + 0x7FFF
        return self.cast("trunc", rounded >> 16, "i16")

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """a * b + c, rounded once."""
        return self.emit("fma", a.type, (a, b, c))

    def sqrt(self, value: Value) -> Value:
        return self.emit("sqrt", value.type, (value,))

    def round_even(self, value: Value) -> Value:
        return self.emit("roundeven", value.type, (value,))

    def absolute(self, value: Value) -> Value:
        return self.emit("fabs", value.type, (value,))

    def maximum(self, a: Value, b: Value) -> Value:
        """a if a > b else b."""
        return self.emit("fmax" if a.type.is_float else "smax", a.type, (a, b))

    def minimum(self, a: Value, b: Value | int | float) -> Value:
        """a if a < b else b."""
        other = self._lift(b, a.type)
        return self.emit("fmin" if a.type.is_float else "smin", a.type, (a, other))

    def compare(self, relation: str, a: Value, b: Value | int | float) -> Value:
        """Lanes where a relation b holds: eq ne slt sle sgt sge ult, or for floats oeq ogt oge olt ole uno."""
        other = self._lift(b, a.type)
        return self.emit("fcmp" if a.type.is_float else "icmp", a.type.of("i1"), (a, other), (relation,))

    def select(self, condition: Value, a: Value, b: Value) -> Value:
        """a where the condition holds, else b."""
        assert a.type == b.type and condition.type.lanes in (1, a.type.lanes)
        return self.emit("select", a.type, (condition, a, b))

    def shuffle(self, a: Value, b: Value, mask: Sequence[int]) -> Value:
        """Lanes of a and b (numbered on after a) in the order of the mask."""
        return self.emit("shuffle", Type(a.type.kind, len(mask)), (a, b), tuple(mask), range=_union(a, b))

    def slice(self, value: Value, start: int, lanes: int) -> Value:
        """`lanes` neighbouring lanes."""
        if lanes == value.type.lanes:
            return value
        if lanes == 1:
            return self.extract(value, start)
        return self.shuffle(value, value, range(start, start + lanes))

    def extract(self, value: Value, lane: int) -> Value:
        """One lane as a scalar."""
        if value.type.lanes == 1:
            return value
        return self.emit("extract", Type(value.type.kind), (value,), (lane,), range=value.range)

    def iota(self, lanes: int) -> Value:
        """0, 1, 2, ... as i32."""
        return self.emit("iota", Type("i32", lanes), (), (), range=Range(0, lanes - 1))

    def tree(self, value: Value, combine: Callable[[Value, Value], Value]) -> Value:
        """All lanes combined into a scalar, halves with halves: one order on every target."""
        while value.type.lanes > 1:
            half = value.type.lanes // 2
            value = combine(self.slice(value, 0, half), self.slice(value, half, half))
        return value

    def sum(self, value: Value) -> Value:
        return self.tree(value, lambda a, b: a + b)

    def largest(self, value: Value) -> Value:
        return self.tree(value, self.maximum)

    def exp2(self, x: Value) -> Value:
        """2**x in f32 for x <= 0, within 2 ulp; 0 below -126.  One order of operations on every target.

        2**x = 2**n * 2**f with n = round(x), |f| <= 1/2; 2**f by its Taylor polynomial in f * ln 2.
        """
        low = self.const(-126.0, x.type)
        n = self.round_even(self.maximum(x, low))
        f = self.maximum(x, low) - n
        y = self.const(_EXP2_COEFFICIENTS[0], x.type)
        for coefficient in _EXP2_COEFFICIENTS[1:]:
            y = self.fma(y, f, self.const(coefficient, x.type))
        bits = self.bitcast(y, x.type.of("i32")) + (self.cast("fptosi", n, "i32") << 23)
        return self.select(self.compare("olt", x, low), self.zeros(x.type), self.bitcast(bits, x.type))


    def log(self, x: Value) -> Value:
        """Natural logarithm of a normal positive f32, by the series of atanh on [1/sqrt 2, sqrt 2]."""
        bits = self.bitcast(x, x.type.of("i32"))
        mantissa = self.bitcast((bits & 0x7FFFFF) | 0x3F800000, x.type)
        large = self.compare("ogt", mantissa, 1.4142135)
        mantissa = self.select(large, mantissa * 0.5, mantissa)
        exponent = self.to_f32((bits >> 23) - 127) + self.select(
            large, self.const(1.0, x.type), self.const(0.0, x.type)
        )
        s = (mantissa - 1.0) / (mantissa + 1.0)
        square = s * s
        series = self.const(2.0 / 9.0, x.type)
        for n in (7, 5, 3, 1):
            series = self.fma(series, square, self.const(2.0 / n, x.type))
        return self.fma(exponent, self.const(_LN2, x.type), series * s)


_LN2 = 0.6931471805599453
_EXP2_COEFFICIENTS = tuple(
    _LN2**k / factorial for k, factorial in ((6, 720.0), (5, 120.0), (4, 24.0), (3, 6.0), (2, 2.0), (1, 1.0), (0, 1.0))
)

LOG2_E = 1.4426950408889634


def _range_of(op: str, a: Value, b: Value) -> Range | None:
    """Interval arithmetic; None where nothing useful is known."""
    if op == "and" and b.range and b.range.lo >= 0:
        return Range(0, b.range.hi)  # whatever a is, a mask bounds the result
    if a.range is None or b.range is None:
        return None
    match op:
        case "add":
            result = Range(a.range.lo + b.range.lo, a.range.hi + b.range.hi)
        case "sub":
            result = Range(a.range.lo - b.range.hi, a.range.hi - b.range.lo)
        case "mul":
            corners = [x * y for x in (a.range.lo, a.range.hi) for y in (b.range.lo, b.range.hi)]
            result = Range(min(corners), max(corners))
        case "or" if a.range.lo >= 0 and b.range.lo >= 0:
            result = Range(0, (1 << max(a.range.hi, b.range.hi).bit_length()) - 1)
        case "shl" if a.range.lo >= 0 and b.range.lo == b.range.hi:
            result = Range(a.range.lo << b.range.lo, a.range.hi << b.range.lo)
        case "lshr" if a.range.lo >= 0 and b.range.lo == b.range.hi:
            result = Range(a.range.lo >> b.range.lo, a.range.hi >> b.range.lo)
        case _:
            return None
    signed = Range.of_signed(a.type.lane_bits)
    unsigned_hi = (1 << a.type.lane_bits) - 1
    fits = signed.lo <= result.lo and result.hi <= (signed.hi if result.lo < 0 else unsigned_hi)
    return result if fits else None


def _range_of_cast(op: str, a: Value, bits: int) -> Range | None:
    """A range survives a change of width where the bits still mean the same number."""
    if a.range is None:
        return None
    match op:
        case "zext":
            return a.range if a.range.lo >= 0 else None
        case "sext":
            return a.range if a.range.fits(a.type.lane_bits) else None
        case "trunc":
            is_unsigned = a.range.lo >= 0 and a.range.hi < 1 << bits
            return a.range if is_unsigned or a.range.fits(bits) else None
    return None


def _union(a: Value, b: Value) -> Range | None:
    if a.range is None or b.range is None:
        return None
    return Range(min(a.range.lo, b.range.lo), max(a.range.hi, b.range.hi))


__all__ = ["FLOAT", "I32", "I64", "LOG2_E", "PTR", "Cell", "Tile", "Value"]
