"""The instruction sets kernels are built for, and which of them this machine has."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache

from ..errors import BadConfig, Unsupported


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
        Target("avx2", _X86, "x86-64-v3", _V3, 8, 16, "maddubs", False, 8, _V3_FLAGS),
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
