"""How the elements of a weight are stored: one description for files, packing and kernels.

Every quantised format is a sum of scaled integer codes over blocks along K:

    w[n, k] = scale(n, block) * (code[n, k] - zero) + minimum(n, block)

A codebook format replaces `code - zero` by `codebook[code]`.  The minimum stays a real number: rounding it
to an integer zero point costs SmolLM2 0.155 nats a token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ScaleKind = Literal["f16", "super_u8", "super_i8"]
MinimumKind = Literal["none", "f16", "super_u8"]

BLOCK = 32
"""Elements along K that share one activation scale; every kernel works in such blocks."""
SUPERBLOCK = 256
"""Elements along K that share the f16 scale of a K-quant."""
COLUMNS = 16
"""Output columns interleaved in one packed tile, for every instruction set."""


@dataclass(frozen=True, slots=True)
class Quantised:
    """A quantised weight format.

    bits      bits per code; codes are unsigned, 0 .. 2**bits - 1
    sub       codes that share one scale: 32 or 16
    scale     f16: one per sub-block; super_*: an 8-bit integer per sub-block times an f16 per superblock
    minimum   like scale; super_u8 is *subtracted* (w = d*sc*q - dmin*m), f16 is added (w = d*q + m)
    zero      integer subtracted from every code
    codebook  signed 8-bit values that codes name, or None
    """

    name: str
    bits: int
    sub: int = 32
    scale: ScaleKind = "f16"
    minimum: MinimumKind = "none"
    zero: int = 0
    codebook: tuple[int, ...] | None = None

    @property
    def true_zero(self) -> int:
        """Integer that kernels subtract: codebook values are shifted by 128 to be unsigned."""
        return 128 if self.codebook else self.zero

    @property
    def block_bytes(self) -> int:
        """Packed bytes of one tile of 16 columns x 32 codes, without the per-superblock f16 values."""
        subs = BLOCK // self.sub
        scale = 32 * subs if self.scale == "f16" else 16 * subs
        minimum = {"none": 0, "f16": 32 * subs, "super_u8": 16 * subs}[self.minimum]
        return COLUMNS * BLOCK * self.bits // 8 + scale + minimum

    @property
    def super_bytes(self) -> int:
        """Packed bytes of the f16 values that one tile of 16 columns keeps per superblock."""
        return 32 * ((self.scale != "f16") + (self.minimum == "super_u8"))

    def tile_bytes(self, k: int) -> int:
        """Packed bytes of 16 columns x k codes."""
        supers = (k // SUPERBLOCK) * self.super_bytes
        return (k // BLOCK) * self.block_bytes + supers


@dataclass(frozen=True, slots=True)
class Plain:
    """Elements stored as numbers of their own."""

    name: str
    item_bytes: int


WeightFormat = Quantised | Plain

F32, F16, BF16 = Plain("f32", 4), Plain("f16", 2), Plain("bf16", 2)

IQ4_NL_CODEBOOK = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)

Q8_0 = Quantised("q8_0", bits=8, zero=128)
Q4_0 = Quantised("q4_0", bits=4, zero=8)
Q4_1 = Quantised("q4_1", bits=4, minimum="f16")
Q5_0 = Quantised("q5_0", bits=5, zero=16)
Q5_1 = Quantised("q5_1", bits=5, minimum="f16")
Q4_K = Quantised("q4_k", bits=4, scale="super_u8", minimum="super_u8")
Q5_K = Quantised("q5_k", bits=5, scale="super_u8", minimum="super_u8")
Q6_K = Quantised("q6_k", bits=6, sub=16, scale="super_i8", zero=32)
Q2_K = Quantised("q2_k", bits=2, sub=16, scale="super_u8", minimum="super_u8")
Q3_K = Quantised("q3_k", bits=3, sub=16, scale="super_i8", zero=4)
IQ4_NL = Quantised("iq4_nl", bits=4, codebook=IQ4_NL_CODEBOOK)

FORMATS: dict[str, WeightFormat] = {
    f.name: f
    for f in (F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K, Q2_K, Q3_K, IQ4_NL)
}
