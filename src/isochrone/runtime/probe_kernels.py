"""The kernels that find a machine's ceilings, written in the same tile language as the model's own.

Each takes its addresses from the argument table (slot 0: data, slot 1: a place for the result) and repeats its body
once per work item.  They do nothing useful, so every value they use comes from memory: a compiler that knew it
would compute the result itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from isochrone.compiler.ir import I64, PTR, Kernel, Type
from isochrone.compiler.isa import Target
from isochrone.compiler.tile import Cell, Tile, Value

NUM_ACCUMULATORS = 12
"""Independent chains: two units of latency four need eight, and 16 registers leave room for no more than twelve."""
NUM_CLOCK_STEPS = 128
DATA, RESULT, SIZE = 0, 1, 2
"""Slots of the argument table."""

BARRIER_TEXT = """
define void @probe_barrier(ptr %ctx, ptr %args, i64 %begin, i64 %end, i64 %worker) #0 {
entry:
  %counter = load ptr, ptr %args
  %size = getelementptr i8, ptr %args, i64 16
  %threads = load i64, ptr %size
  br label %round
round:
  %i = phi i64 [ %begin, %entry ], [ %next, %crossed ]
  %next = add i64 %i, 1
  %target = mul i64 %next, %threads
  %before = atomicrmw add ptr %counter, i64 1 acq_rel
  br label %wait
wait:
  %seen = load atomic i64, ptr %counter acquire, align 8
  %done = icmp uge i64 %seen, %target
  br i1 %done, label %crossed, label %spin
spin:
  call void @llvm.x86.sse2.pause()
  br label %wait
crossed:
  %more = icmp ult i64 %next, %end
  br i1 %more, label %round, label %leave
leave:
  ret void
}

declare void @llvm.x86.sse2.pause()
"""
"""The driver's barrier on its own (one fetch-add, then a spin): atomics stand outside the tile language."""


@dataclass(frozen=True, slots=True)
class ProbeKernel:
    """A kernel and what one work item of it does: operations, or clock cycles of a chain that nothing can shorten."""

    kernel: Kernel
    num_operations: int


def build_probe_kernels(target: Target) -> dict[str, ProbeKernel]:
    """All kernels that this target can run, by the ceiling they find; `read` is priced by its bytes instead."""
    makers: dict[str, Callable[[Target], ProbeKernel]] = {"clock": _clock, "read": _read, "fp32": _fp32}
    if target.dot == "vnni":
        makers["int8_dot"] = _int8_dot
    if target.dot in ("vnni", "maddubs"):
        makers["int8_chain"] = _int8_chain
    if target.bf16_dot:
        makers["bf16"] = _bf16
    return {name: make(target) for name, make in makers.items()}


def _clock(target: Target) -> ProbeKernel:
    """A chain of dependent adds; every second step is a xor, of one cycle too, so that no two adds become one."""
    t = Tile("probe_clock", target)
    data = t.arg(DATA, PTR)
    step, mask = t.load(data, I64), t.load(data, I64, 8)
    x = t.cell(t.load(data, I64, 16))
    with t.items():
        value = x.get()
        for _ in range(NUM_CLOCK_STEPS // 2):
            value = (value + step) ^ mask
        x.set(value)
    t.store(t.arg(RESULT, PTR), x.get())
    return ProbeKernel(t.finish(), NUM_CLOCK_STEPS)


def _read(target: Target) -> ProbeKernel:
    """One item reads `SIZE` bytes from first to last, eight vectors at a time."""
    t = Tile("probe_read", target)
    data, size, vector = t.arg(DATA, PTR), t.arg(SIZE), Type("i32", target.lanes)
    sums = [t.cell(t.zeros(vector)) for _ in range(8)]
    with t.items(), t.loop(0, size, 8 * vector.num_bytes) as offset:
        here = t.at(data, offset)
        for number, total in enumerate(sums):
            total.set(total.get() + t.load(here, vector, number * vector.num_bytes))
    _store_all(t, sums)
    return ProbeKernel(t.finish(), 0)


def _fp32(target: Target) -> ProbeKernel:
    """Fused multiply-adds."""
    vector = Type("f32", target.lanes)
    return _chains("probe_fp32", target, vector, vector, 2 * target.lanes, lambda t, total, a, b: t.fma(total, a, b))


def _bf16(target: Target) -> ProbeKernel:
    """Dots of two bf16 pairs into f32."""
    pairs, sums = Type("bf16", 2 * target.lanes), Type("f32", target.lanes)
    return _chains(
        "probe_bf16", target, sums, pairs, 4 * target.lanes,
        lambda t, total, a, b: t.emit("dpbf16", sums, (total, a, b)),
    )  # fmt: skip


def _int8_dot(target: Target) -> ProbeKernel:
    """vpdpbusd: four u8 x s8 products into each i32 lane."""
    codes, sums = Type("i8", 4 * target.lanes), Type("i32", target.lanes)
    return _chains(
        "probe_int8_dot", target, sums, codes, 8 * target.lanes,
        lambda t, total, a, b: t.emit("dpbusd", sums, (total, a, b)),
    )  # fmt: skip


def _chains(
    name: str,
    target: Target,
    total: Type,
    operand: Type,
    num_operations: int,
    step: Callable[[Tile, Value, Value, Value], Value],
) -> ProbeKernel:
    """Independent accumulators, each taking one step per item with the same two operands in registers."""
    t = Tile(name, target)
    data = t.arg(DATA, PTR)
    a, b = t.load(data, operand), t.load(data, operand, operand.num_bytes)
    sums = [t.cell(t.load(data, total, 64 * number)) for number in range(NUM_ACCUMULATORS)]
    with t.items():
        for accumulator in sums:
            accumulator.set(step(t, accumulator.get(), a, b))
    _store_all(t, sums)
    return ProbeKernel(t.finish(), NUM_ACCUMULATORS * num_operations)


def _int8_chain(target: Target) -> ProbeKernel:
    """The AVX2 way: 8 vpmaddubsw, 7 vpaddw, 1 vpmaddwd, 1 vpaddd, always in 256 bits.

    Four code vectors meet two activation vectors that change with the item, as in a matmul: products that stayed
    the same would be computed once, outside the loop.
    """
    t = Tile("probe_int8_chain", target)
    lanes = 8
    codes, words, sums = Type("i8", 4 * lanes), Type("i16", 2 * lanes), Type("i32", lanes)
    data = t.arg(DATA, PTR)
    weights = [t.load(data, codes, 32 * number) for number in range(4)]
    ones = t.const(1, words)
    totals = [t.cell(t.zeros(sums)) for _ in range(2)]
    with t.items() as item:
        here = t.at(data, (item & 7) * 128 + 128)
        for number, total in enumerate(totals):
            activations = [t.load(here, codes, 64 * number + 32 * half) for half in range(2)]
            pairs = [t.emit("maddubs", words, (w, a)) for a in activations for w in weights]
            chain = pairs[0]
            for pair in pairs[1:]:
                chain = chain + pair
            total.set(total.get() + t.emit("maddwd", sums, (chain, ones)))
    _store_all(t, totals)
    return ProbeKernel(t.finish(), len(totals) * 8 * 8 * lanes)


def _store_all(t: Tile, cells: list[Cell]) -> None:
    """Write every accumulator, so that none is dead."""
    result = t.arg(RESULT, PTR)
    for number, cell in enumerate(cells):
        t.store(result, cell.get(), 64 * number)
