"""The tile IR executed in NumPy, over the same bytes as compiled code: the debug build of every kernel.

Each load and store checks that it stays inside the buffer its pointer came from, and each integer that it lies in
the range the builder proved.  What it refuses names the kernel, the operation and the loop indices.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .ir import PTR, Instr, Item, Kernel, Loop, Type, When, print_instr, walk
from .semantics import DTYPES, Lanes, Undefined, evaluate, unsigned


class KernelFault(AssertionError):
    """A kernel did what no kernel may do.

    kernel   its name
    op       the operation as printed
    indices  the enclosing loops' indices, outermost first, the work item among them
    """

    def __init__(self, kernel: str, op: str, indices: tuple[int, ...], message: str) -> None:
        super().__init__(f"{kernel}: {op!r} at indices {indices} {message}")
        self.kernel, self.op, self.indices = kernel, op, indices


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """A buffer that kernels may touch."""

    name: str
    address: int
    data: NDArray[np.uint8]

    def __str__(self) -> str:
        return f"{self.name} of {self.data.size} bytes"


@dataclass(frozen=True, slots=True)
class Pointer:
    """An address and the buffer it came from.  Arithmetic never moves it to another buffer."""

    region: Region | None
    address: int


class Memory:
    """The buffers that kernels may touch, at their true addresses: tables of pointers serve compiled code as well."""

    def __init__(self) -> None:
        self._regions: list[Region] = []

    def add(self, name: str, array: NDArray[Any]) -> int:
        """Register a contiguous array, which the caller keeps alive, and return its address.

        A read-only array is never stored to.  Parts of a registered array may be registered again under their own
        names; a pointer loaded from a table belongs to the smallest buffer that holds it.
        """
        assert array.flags.c_contiguous, f"{name} is not contiguous"
        region = Region(name, int(array.ctypes.data), array.reshape(-1).view(np.uint8))
        self._regions.append(region)
        return region.address

    def pointer(self, address: int) -> Pointer:
        """The pointer with this address; one that no buffer holds can be carried but not used."""
        holding = [r for r in self._regions if r.address <= address < r.address + max(r.data.size, 1)]
        return Pointer(min(holding, key=lambda r: r.data.size, default=None), address)


def interpret(
    kernel: Kernel,
    memory: Memory,
    ctx: NDArray[np.int64],
    args: NDArray[np.int64],
    *,
    begin: int,
    end: int,
    worker: int = 0,
) -> None:
    """Run a kernel for the work items begin .. end - 1.

    ctx, args  the two tables of 64-bit words; they need not be registered

    Raises KernelFault for an access outside a buffer, a value outside its range, or an undefined operation.
    """
    run = _Run(kernel, memory)
    for number, (name, table) in enumerate((("ctx", ctx), ("args", args))):
        region = Region(name, int(table.ctypes.data), table.view(np.uint8))
        run.values[number] = Pointer(region, region.address)
    for number, word in enumerate((begin, end, worker), start=2):
        run.values[number] = np.array([word], np.int64)
    with np.errstate(all="ignore"):
        run.items(kernel.body)


class _Run:
    """One execution of one kernel."""

    def __init__(self, kernel: Kernel, memory: Memory) -> None:
        self.kernel, self.memory = kernel, memory
        self.values: dict[int, Any] = {}
        self.cells: list[Any] = [None] * len(kernel.cells)
        self.indices: list[int] = []
        self.stack = dict(_stack_blocks(kernel))

    def items(self, items: Sequence[Item]) -> None:
        for item in items:
            match item:
                case Instr():
                    self._instr(item)
                case When(condition, body):
                    if self.values[condition][0]:
                        self.items(body)
                case Loop(index, start, stop, step, body):
                    for at in range(int(self.values[start][0]), int(self.values[stop][0]), step):
                        self.values[index] = np.array([at], np.int64)
                        self.indices.append(at)
                        self.items(body)
                        self.indices.pop()

    def _instr(self, instr: Instr) -> None:
        args = [self.values[a] for a in instr.args]
        match instr.op:
            case "set":
                self.cells[int(instr.attrs[0])] = args[0]
                return
            case "prefetch":
                return
            case "store":
                self._bytes(instr, args[0], writes=True)[:] = _to_bytes(args[1])
                return
            case "get":
                result = self.cells[int(instr.attrs[0])]
            case "gep":
                result = Pointer(args[0].region, args[0].address + int(args[1][0]))
            case "stack":
                block = self.stack[int(instr.attrs[0])]
                result = Pointer(block, block.address)
            case "load":
                result = self._from_bytes(instr.type, self._bytes(instr, args[0], writes=False))
            case "select" if instr.type == PTR:
                result = args[1] if args[0][0] else args[2]
            case _:
                try:
                    result = evaluate(instr, args, [self.kernel.types[a] for a in instr.args])
                except Undefined as error:
                    raise self._fault(instr, str(error)) from error
        self._check_range(instr, result)
        self.values[instr.out] = result

    def _bytes(self, instr: Instr, pointer: Pointer, *, writes: bool) -> NDArray[np.uint8]:
        """The bytes an access touches."""
        region, size = pointer.region, instr.type.num_bytes
        if region is None:
            raise self._fault(instr, f"touches address {pointer.address + int(instr.attrs[0]):#x}, in no buffer")
        start = pointer.address + int(instr.attrs[0]) - region.address
        if start < 0 or start + size > region.data.size:
            raise self._fault(instr, f"touches bytes {start} .. {start + size} of {region}")
        if writes and not region.data.flags.writeable:
            raise self._fault(instr, f"stores to {region}, which is read-only")
        return region.data[start : start + size]

    def _from_bytes(self, type: Type, raw: NDArray[np.uint8]) -> Lanes | Pointer:
        if type == PTR:
            return self.memory.pointer(int(raw.copy().view(np.int64)[0]))
        return np.asarray(raw.copy().view(DTYPES[type.kind]))

    def _check_range(self, instr: Instr, result: Any) -> None:
        known = self.kernel.ranges[instr.out]
        if known is None or isinstance(result, Pointer):
            return
        seen = result if known.lo < 0 else unsigned(result)
        if int(seen.min()) < known.lo or int(seen.max()) > known.hi:
            raise self._fault(instr, f"gives {seen.min()} .. {seen.max()}, outside [{known.lo}, {known.hi}]")

    def _fault(self, instr: Instr, message: str) -> KernelFault:
        return KernelFault(self.kernel.name, print_instr(self.kernel, instr), tuple(self.indices), message)


def _stack_blocks(kernel: Kernel) -> Iterator[tuple[int, Region]]:
    """Each block of the stack by its offset; a block ends where the next begins."""
    offsets = {int(i.attrs[0]) for i in walk(kernel.body) if isinstance(i, Instr) and i.op == "stack"}
    for begin, end in itertools.pairwise([*sorted(offsets), kernel.scratch_bytes]):
        data = np.full(end - begin, 0xCD, np.uint8)  # Never zero: nothing may rely on a fresh stack.
        yield begin, Region(f"stack block {begin}", int(data.ctypes.data), data)


def _to_bytes(value: Lanes | Pointer) -> NDArray[np.uint8]:
    if isinstance(value, Pointer):
        return np.array([value.address], np.int64).view(np.uint8)
    return np.ascontiguousarray(value).view(np.uint8)
