"""Targets: what an instruction set offers, and the dot products built from it.

Everything that differs between instruction sets lives here; kernels say `dot_groups` and look the same for all.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from ..errors import BadConfig, Unsupported
from .ir import Range, Type
from .tile import Tile, Value


@dataclass(frozen=True, slots=True)
class Target:
    """An instruction set as kernels see it.

    lanes      f32 lanes of the vector a kernel works with
    registers  vector registers
    dot        how four u8 x s8 products reach an i32 lane: "vnni", "maddubs" or "portable"
    bf16_dot   whether two bf16 products reach an f32 lane in one instruction
    rows       rows of the widest matmul tile that spills nothing
    """

    name: str
    triple: str
    cpu: str
    features: str
    lanes: int
    registers: int
    dot: str
    bf16_dot: bool
    rows: int
    needs: frozenset[str]

    @property
    def numeric_class(self) -> str:
        """Answers are reproducible, bit for bit, within one class (docs/explanation/numbers.md)."""
        return "bf16" if self.bf16_dot else "f32"


_X86 = "x86_64-unknown-linux-gnu"
_V3 = "+avx,+avx2,+fma,+f16c,+bmi,+bmi2,+lzcnt,+popcnt"
_V4 = _V3 + ",+avx512f,+avx512bw,+avx512dq,+avx512vl,+avx512vnni"
_V3_FLAGS = frozenset({"avx2", "fma", "f16c", "bmi2"})
_VNNI_FLAGS = _V3_FLAGS | {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni"}

TARGETS: dict[str, Target] = {
    t.name: t
    for t in (
        Target("portable", _X86, "x86-64-v3", _V3, 8, 16, "portable", False, 2, _V3_FLAGS),
        Target("avx2", _X86, "x86-64-v3", _V3, 8, 16, "maddubs", False, 4, _V3_FLAGS),
        Target("vnni", _X86, "x86-64-v4", _V4, 16, 32, "vnni", False, 8, _VNNI_FLAGS),
        Target(
            "vnni-bf16", _X86, "x86-64-v4", _V4 + ",+avx512bf16", 16, 32, "vnni", True, 8,
            _VNNI_FLAGS | {"avx512_bf16"},
        ),  # fmt: skip
    )
}  # fmt: skip


@lru_cache(maxsize=1)
def cpu_flags() -> frozenset[str]:
    """The flags the kernel reports for the first processor."""
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as lines:
        for line in lines:
            if line.startswith(("flags", "Features")):
                return frozenset(line.split(":", 1)[1].split())
    return frozenset()


def available_targets() -> tuple[Target, ...]:
    """Every target this machine can run, plainest first."""
    return tuple(t for t in TARGETS.values() if t.needs <= cpu_flags())


def choose_target(name: str | None = None) -> Target:
    """The best target of this machine, or the one named by the argument or ISOCHRONE_ISA.

    Raises BadConfig for an unknown name, Unsupported where the processor lacks it.
    """
    name = name or os.environ.get("ISOCHRONE_ISA") or None
    available = available_targets()
    if name is None:
        if not available:
            raise Unsupported(
                "This processor lacks AVX2 or FMA, and there are no kernels for less.",
                fix="Run it on x86-64 with AVX2 and FMA (Intel since 2013, AMD since 2015).",
            )
        return available[-1]
    if name not in TARGETS:
        raise BadConfig(f"ISOCHRONE_ISA={name} is not known.", fix=f"Use one of: {', '.join(TARGETS)}.")
    if TARGETS[name] not in available:
        raise Unsupported(
            f"This processor cannot run {name}: it lacks {', '.join(sorted(TARGETS[name].needs - cpu_flags()))}.",
            fix=f"Use one of: {', '.join(t.name for t in available)}.",
        )
    return TARGETS[name]


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
