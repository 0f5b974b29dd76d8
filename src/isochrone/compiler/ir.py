"""The tile IR: one kernel's loops and vectors as frozen data, printable (checked by verify.py).

A kernel has the signature `kernel(ctx, args, begin, end, worker)`: two tables of 64-bit words (the step's extents
and addresses; the region's addresses and sizes), a range of work items, and who runs them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_BITS = {"i1": 1, "i8": 8, "i16": 16, "i32": 32, "i64": 64, "f16": 16, "bf16": 16, "f32": 32, "ptr": 64}


@dataclass(frozen=True, slots=True)
class Type:
    """A scalar (lanes 1) or a vector of equal lanes."""

    kind: str
    lanes: int = 1

    @property
    def is_float(self) -> bool:
        return self.kind in ("f16", "bf16", "f32")

    @property
    def lane_bits(self) -> int:
        return _BITS[self.kind]

    @property
    def num_bytes(self) -> int:
        return self.lane_bits * self.lanes // 8

    def of(self, kind: str) -> Type:
        """The same lanes, another kind."""
        return Type(kind, self.lanes)

    def __str__(self) -> str:
        return self.kind if self.lanes == 1 else f"{self.kind}x{self.lanes}"


I64, I32, PTR, FLOAT = Type("i64"), Type("i32"), Type("ptr"), Type("f32")


@dataclass(frozen=True, slots=True)
class Range:
    """What is known of every lane of an integer value: lo <= lane <= hi."""

    lo: int
    hi: int

    @classmethod
    def of_signed(cls, bits: int) -> Range:
        return cls(-(1 << (bits - 1)), (1 << (bits - 1)) - 1)

    @property
    def magnitude(self) -> int:
        return max(abs(self.lo), abs(self.hi))

    def fits(self, bits: int) -> bool:
        full = Range.of_signed(bits)
        return full.lo <= self.lo and self.hi <= full.hi


@dataclass(frozen=True, slots=True)
class Instr:
    """One operation.  out is its number in the kernel, -1 when it gives nothing."""

    op: str
    out: int
    type: Type
    args: tuple[int, ...] = ()
    attrs: tuple[int | float | str, ...] = ()


@dataclass(frozen=True, slots=True)
class Loop:
    """for index in range(start, stop, step): body.  Values that change live in cells."""

    index: int
    start: int
    stop: int
    step: int
    body: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class When:
    """if condition (an i1 scalar): body."""

    condition: int
    body: tuple[Item, ...]


Item = Instr | Loop | When


@dataclass(frozen=True, slots=True)
class Kernel:
    """A finished kernel.  types[v] and ranges[v] describe value v; cells[c] is the type of cell c."""

    name: str
    body: tuple[Item, ...]
    types: tuple[Type, ...]
    ranges: tuple[Range | None, ...]
    cells: tuple[Type, ...]
    scratch_bytes: int = 0

    def __str__(self) -> str:
        lines = [f"kernel {self.name}(ctx %0, args %1, begin %2, end %3, worker %4)"]
        lines += (f"  cell @{c}: {type}" for c, type in enumerate(self.cells))
        lines += _print_items(self, self.body, "  ")
        return "\n".join(lines)


def walk(items: tuple[Item, ...]) -> Iterator[Item]:
    """Every item, outer before inner."""
    for item in items:
        yield item
        if not isinstance(item, Instr):
            yield from walk(item.body)


def _print_items(kernel: Kernel, items: tuple[Item, ...], indent: str) -> Iterator[str]:
    for item in items:
        match item:
            case Loop(index, start, stop, step, body):
                yield f"{indent}for %{index} in range(%{start}, %{stop}, {step}):"
                yield from _print_items(kernel, body, indent + "  ")
            case When(condition, body):
                yield f"{indent}when %{condition}:"
                yield from _print_items(kernel, body, indent + "  ")
            case Instr():
                yield indent + print_instr(kernel, item)


def print_instr(kernel: Kernel, instr: Instr) -> str:
    """One operation as the kernel prints it."""
    operands = [f"%{a}" for a in instr.args] + [str(a) for a in instr.attrs]
    text = f"{instr.op} {', '.join(operands)}".rstrip()
    if instr.out < 0:
        return text
    known = kernel.ranges[instr.out]
    note = f"  [{known.lo}, {known.hi}]" if known else ""
    return f"%{instr.out}: {instr.type} = {text}{note}"
