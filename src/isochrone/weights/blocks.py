"""What the blocks of a stored row say: their codes, scales and minima, whatever order the file keeps them in.

Layouts follow ggml's `ggml-common.h` and `ggml-quants.c`.  A structured dtype describes one block; a `split`
function turns an array of such blocks into `Parts`, in which code k of a row is simply `codes[row, k]`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..graph.formats import BLOCK, SUPERBLOCK, Plain, Quantised, WeightFormat

U8 = NDArray[np.uint8]
F16 = NDArray[np.float16]
F32 = NDArray[np.float32]
Blocks = NDArray[np.void]
Scales = NDArray[np.float16] | NDArray[np.uint8] | NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class Parts:
    """Quantised rows taken apart.  `w = scale · (code - zero) + minimum`, as `graph.formats` says.

    codes         u8 [rows, k]
    scales        f16, u8 or i8 [rows, k / sub]
    minima        f16 or u8 [rows, k / sub], or None
    super_scales  f16 [rows, k / 256], or None
    super_minima  f16 [rows, k / 256], or None
    """

    codes: U8
    scales: Scales
    minima: Scales | None = None
    super_scales: F16 | None = None
    super_minima: F16 | None = None


def _fields(*fields: tuple[str, str, int]) -> np.dtype[np.void]:
    return np.dtype([(name, kind) if count == 1 else (name, kind, (count,)) for name, kind, count in fields])


BLOCK_DTYPES: dict[str, np.dtype[np.void]] = {
    "q8_0": _fields(("d", "<f2", 1), ("qs", "u1", 32)),
    "q4_0": _fields(("d", "<f2", 1), ("qs", "u1", 16)),
    "q4_1": _fields(("d", "<f2", 1), ("m", "<f2", 1), ("qs", "u1", 16)),
    "q5_0": _fields(("d", "<f2", 1), ("qh", "<u4", 1), ("qs", "u1", 16)),
    "q5_1": _fields(("d", "<f2", 1), ("m", "<f2", 1), ("qh", "<u4", 1), ("qs", "u1", 16)),
    "iq4_nl": _fields(("d", "<f2", 1), ("qs", "u1", 16)),
    "q2_k": _fields(("scales", "u1", 16), ("qs", "u1", 64), ("d", "<f2", 1), ("dmin", "<f2", 1)),
    "q3_k": _fields(("hmask", "u1", 32), ("qs", "u1", 64), ("scales", "u1", 12), ("d", "<f2", 1)),
    "q4_k": _fields(("d", "<f2", 1), ("dmin", "<f2", 1), ("scales", "u1", 12), ("qs", "u1", 128)),
    "q5_k": _fields(("d", "<f2", 1), ("dmin", "<f2", 1), ("scales", "u1", 12), ("qh", "u1", 32), ("qs", "u1", 128)),
    "q6_k": _fields(("ql", "u1", 128), ("qh", "u1", 64), ("scales", "i1", 16), ("d", "<f2", 1)),
}
"""One block of each quantised format, byte for byte as a file keeps it."""

PAIR_SHIFTS = np.array([0, 2, 4, 6], np.uint8)
BIT_SHIFTS = np.arange(8, dtype=np.uint8)


def block_items(format: WeightFormat) -> int:
    """Elements along K that a file stores together."""
    if isinstance(format, Plain):
        return 1
    return BLOCK if format.scale == "f16" else SUPERBLOCK


def row_bytes(format: WeightFormat, k: int) -> int:
    """Bytes of one stored row of k elements.  The caller has checked that k is a multiple of `block_items`."""
    if isinstance(format, Plain):
        return k * format.item_bytes
    return k // block_items(format) * BLOCK_DTYPES[format.name].itemsize


def row_items(format: WeightFormat, num_bytes: int) -> int:
    """Elements of a stored row that takes this many bytes: the inverse of `row_bytes`."""
    if isinstance(format, Plain):
        return num_bytes // format.item_bytes
    return num_bytes // BLOCK_DTYPES[format.name].itemsize * block_items(format)


def as_blocks(format: Quantised, raw: U8) -> Blocks:
    """View stored rows u8 [rows, row_bytes] as blocks [rows, blocks]."""
    blocks: Blocks = np.ascontiguousarray(raw).view(BLOCK_DTYPES[format.name])
    return blocks


def split(format: Quantised, raw: U8) -> Parts:
    """Take stored rows apart.

    raw      u8 [rows, row_bytes]
    returns  Parts over [rows, k]
    """
    return _SPLITS[format.name](as_blocks(format, raw))


def _rows(blocks: Blocks, codes: U8) -> U8:
    return codes.reshape(blocks.shape[0], -1)


def _nibbles(qs: U8) -> U8:
    """Byte j of a group of n bytes holds code j (low half) and code j + n (high half)."""
    return np.concatenate([qs & 15, qs >> 4], axis=-1)


def _fifth_bits(qh: NDArray[np.uint32]) -> U8:
    """Bit j of the word is bit 4 of code j."""
    bits = np.unpackbits(np.ascontiguousarray(qh)[..., None].view(np.uint8), axis=-1, bitorder="little")
    return bits << np.uint8(4)


def _split_q8_0(b: Blocks) -> Parts:
    return Parts(_rows(b, b["qs"] ^ np.uint8(128)), b["d"])


def _split_4bit(b: Blocks) -> Parts:
    return Parts(_rows(b, _nibbles(b["qs"])), b["d"])


def _split_q4_1(b: Blocks) -> Parts:
    return Parts(_rows(b, _nibbles(b["qs"])), b["d"], b["m"])


def _split_q5_0(b: Blocks) -> Parts:
    return Parts(_rows(b, _nibbles(b["qs"]) | _fifth_bits(b["qh"])), b["d"])


def _split_q5_1(b: Blocks) -> Parts:
    return Parts(_rows(b, _nibbles(b["qs"]) | _fifth_bits(b["qh"])), b["d"], b["m"])


def _pairs(b: Blocks) -> U8:
    """Bits 2s..2s+1 of byte l of a half (128 codes) hold code 32 s + l: the low bits of Q2_K and Q3_K."""
    halves = b["qs"].reshape(*b.shape, 2, 1, 32)
    return (halves >> PAIR_SHIFTS[:, None]) & np.uint8(3)


def _split_q2_k(b: Blocks) -> Parts:
    scales = b["scales"]
    return Parts(
        _rows(b, _pairs(b)), _rows(b, scales & np.uint8(15)), _rows(b, scales >> np.uint8(4)), b["d"], b["dmin"]
    )


def _split_q3_k(b: Blocks) -> Parts:
    third = (b["hmask"][..., None, :] >> BIT_SHIFTS[:, None]) & np.uint8(1)
    codes = _pairs(b) | (third << np.uint8(2)).reshape(*b.shape, 2, 4, 32)
    low = _nibbles(b["scales"][..., :8])
    high = (b["scales"][..., None, 8:] >> PAIR_SHIFTS[:, None]) & np.uint8(3)
    scales = (low | high.reshape(low.shape) << np.uint8(4)).view(np.int8) - np.int8(32)
    return Parts(_rows(b, codes), scales.reshape(b.shape[0], -1), None, b["d"], None)


def _six_bit_scales(packed: U8) -> tuple[U8, U8]:
    """The eight scales and eight minima, six bits each, that Q4_K and Q5_K pack into twelve bytes."""
    a, b, c = packed[..., :4], packed[..., 4:8], packed[..., 8:]
    scales = np.concatenate([a & 63, (c & 15) | (a >> 6 << 4)], axis=-1)
    minima = np.concatenate([b & 63, (c >> 4) | (b >> 6 << 4)], axis=-1)
    return scales, minima


def _nibble_pairs(b: Blocks) -> U8:
    """Byte l of a quarter (64 codes) holds code l (low half) and code 32 + l (high half)."""
    return _nibbles(b["qs"].reshape(*b.shape, 4, 32))


def _split_q4_k(b: Blocks) -> Parts:
    scales, minima = _six_bit_scales(b["scales"])
    return Parts(_rows(b, _nibble_pairs(b)), _rows(b, scales), _rows(b, minima), b["d"], b["dmin"])


def _split_q5_k(b: Blocks) -> Parts:
    scales, minima = _six_bit_scales(b["scales"])
    fifth = (b["qh"][..., None, :] >> BIT_SHIFTS[:, None]) & np.uint8(1)
    codes = _nibble_pairs(b).reshape(fifth.shape) | (fifth << np.uint8(4))
    return Parts(_rows(b, codes), _rows(b, scales), _rows(b, minima), b["d"], b["dmin"])


def _split_q6_k(b: Blocks) -> Parts:
    low = _nibbles(b["ql"].reshape(*b.shape, 2, 64)).reshape(*b.shape, 2, 4, 32)
    high = (b["qh"].reshape(*b.shape, 2, 1, 32) >> PAIR_SHIFTS[:, None]) & np.uint8(3)
    return Parts(_rows(b, low | high << np.uint8(4)), b["scales"].reshape(b.shape[0], -1), None, b["d"], None)


_SPLITS: dict[str, Callable[[Blocks], Parts]] = {
    "q8_0": _split_q8_0,
    "q4_0": _split_4bit,
    "q4_1": _split_q4_1,
    "q5_0": _split_q5_0,
    "q5_1": _split_q5_1,
    "iq4_nl": _split_4bit,
    "q2_k": _split_q2_k,
    "q3_k": _split_q3_k,
    "q4_k": _split_q4_k,
    "q5_k": _split_q5_k,
    "q6_k": _split_q6_k,
}
