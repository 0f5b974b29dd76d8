"""A debug build: every load and store first asks a table of buffers whether it may, and reports instead of faulting.

An access that lies in no buffer is not made (a load gives zero); the first one is kept with its kernel, operation and
work item.  Slower by an order of magnitude, and for whole models; the interpreter is stricter (it knows which buffer
a pointer came from) and slower by three.

The table's address is the last word of the step's table:
    number of buffers | number of reports | kernel | operation | index | address | bytes | - | (begin, end) ...
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .ir import Instr, Kernel, Loop, print_instr, walk
from .isa import Target
from .llvm import KernelPrinter, llvm_type, print_module
from .table import Word

TABLE_WORD = Word.NUM_WORDS - 1
"""Word of the step's table that holds the address of the table of buffers."""
_HEAD = 8


@dataclass(frozen=True, slots=True)
class Report:
    """The first access that lay in no buffer.

    index    the outermost loop's index: the work item
    address  where it would have begun
    count    how many accesses were refused in all
    """

    kernel: str
    op: str
    index: int
    address: int
    num_bytes: int
    count: int

    def __str__(self) -> str:
        where = f"{self.num_bytes} bytes at {self.address:#x}"
        return f"{self.kernel}: {self.op!r} of item {self.index} touches {where}, in no buffer ({self.count} in all)"


class Checks:
    """The table that checked kernels consult.  It must outlive the calls."""

    def __init__(self, buffers: Mapping[str, NDArray[Any]]) -> None:
        bounds = [(a.ctypes.data, a.ctypes.data + a.nbytes) for a in buffers.values()]
        self.words = np.array([len(bounds), *[0] * (_HEAD - 1), *(word for pair in bounds for word in pair)], np.int64)

    @property
    def address(self) -> int:
        return int(self.words.ctypes.data)

    def report(self, kernels: Sequence[Kernel]) -> Report | None:
        """What was refused, or None; kernels in the order of the module."""
        count, number, op, index, address, num_bytes = (int(word) for word in self.words[1:7])
        if count == 0:
            return None
        kernel = kernels[number]
        instr = next(item for at, item in enumerate(walk(kernel.body)) if at == op)
        assert isinstance(instr, Instr)
        return Report(kernel.name, print_instr(kernel, instr), index, address, num_bytes, count)


def print_checked(kernels: Sequence[Kernel], target: Target) -> str:
    """LLVM text of a module whose kernels check every access."""
    printers = [_CheckedPrinter(kernel, number) for number, kernel in enumerate(kernels)]
    functions = [printer.function() for printer in printers]
    declarations = sorted(set[str]().union(*(printer.declarations for printer in printers)))
    extra = "\n\n".join([_CHECK_TEXT, *functions, *declarations])
    return print_module([], triple=target.triple, features=target.features, cpu=target.cpu, extra=extra)


class _CheckedPrinter(KernelPrinter):
    """Prints one kernel with a question before each access."""

    def __init__(self, kernel: Kernel, number: int) -> None:
        super().__init__(kernel)
        self._number = number
        self._ordinals = {id(item): at for at, item in enumerate(walk(kernel.body))}
        self._indices: list[int] = []

    def _loop(self, loop: Loop) -> Iterator[str]:
        self._indices.append(loop.index)
        yield from super()._loop(loop)
        self._indices.pop()

    def _memory(self, instr: Instr) -> Iterator[str]:
        if instr.op == "prefetch":
            yield from super()._memory(instr)
            return
        names = [self._label(name) for name in ("access", "refused", "done")]
        access, refused, done = names
        address, words, table, may = (self._temporary() for _ in range(4))
        index = f"%v{self._indices[0]}" if self._indices else "-1"
        stack = ("%scratch", self.kernel.scratch_bytes) if self.kernel.scratch_bytes else ("null", 0)
        yield f"  {address} = getelementptr i8, ptr %v{instr.args[0]}, i64 {instr.attrs[0]}"
        yield f"  {words} = getelementptr i8, ptr %v0, i64 {8 * TABLE_WORD}"
        yield f"  {table} = load ptr, ptr {words}"
        yield (
            f"  {may} = call i1 @check_access(ptr {table}, ptr {address}, i64 {instr.type.num_bytes}, "
            f"i64 {self._number}, i64 {self._ordinals[id(instr)]}, i64 {index}, ptr {stack[0]}, i64 {stack[1]})"
        )
        yield f"  br i1 {may}, label %{access}, label %{refused}"
        yield f"{access}:"
        type, value = llvm_type(instr.type), self._temporary()
        if instr.op == "store":
            yield f"  store {type} %v{instr.args[1]}, ptr {address}, align 1"
        else:
            yield f"  {value} = load {type}, ptr {address}, align 1"
        yield f"  br label %{done}"
        yield f"{refused}:"
        yield f"  br label %{done}"
        yield f"{done}:"
        if instr.op == "load":
            yield f"  %v{instr.out} = phi {type} [ {value}, %{access} ], [ zeroinitializer, %{refused} ]"


_CHECK_TEXT = """\
define internal i1 @check_access(ptr %table, ptr %address, i64 %bytes, i64 %kernel, i64 %op, i64 %index,
                                 ptr %stack, i64 %stack_bytes) noinline #0 {
entry:
  %begin = ptrtoint ptr %address to i64
  %end = add i64 %begin, %bytes
  %stack_begin = ptrtoint ptr %stack to i64
  %stack_end = add i64 %stack_begin, %stack_bytes
  %after_stack = icmp uge i64 %begin, %stack_begin
  %before_stack = icmp ule i64 %end, %stack_end
  %on_stack = and i1 %after_stack, %before_stack
  br i1 %on_stack, label %good, label %search
search:
  %count = load i64, ptr %table
  br label %head
head:
  %i = phi i64 [ 0, %search ], [ %next, %look ]
  %more = icmp ult i64 %i, %count
  br i1 %more, label %look, label %bad
look:
  %offset = shl i64 %i, 4
  %pair = getelementptr i8, ptr %table, i64 %offset
  %low_at = getelementptr i8, ptr %pair, i64 64
  %high_at = getelementptr i8, ptr %pair, i64 72
  %low = load i64, ptr %low_at
  %high = load i64, ptr %high_at
  %above = icmp uge i64 %begin, %low
  %below = icmp ule i64 %end, %high
  %inside = and i1 %above, %below
  %next = add i64 %i, 1
  br i1 %inside, label %good, label %head
bad:
  %reports = getelementptr i8, ptr %table, i64 8
  %before = atomicrmw add ptr %reports, i64 1 monotonic
  %is_first = icmp eq i64 %before, 0
  br i1 %is_first, label %report, label %refuse
report:
  %kernel_at = getelementptr i8, ptr %table, i64 16
  %op_at = getelementptr i8, ptr %table, i64 24
  %index_at = getelementptr i8, ptr %table, i64 32
  %address_at = getelementptr i8, ptr %table, i64 40
  %bytes_at = getelementptr i8, ptr %table, i64 48
  store i64 %kernel, ptr %kernel_at
  store i64 %op, ptr %op_at
  store i64 %index, ptr %index_at
  store i64 %begin, ptr %address_at
  store i64 %bytes, ptr %bytes_at
  br label %refuse
refuse:
  ret i1 false
good:
  ret i1 true
}"""
