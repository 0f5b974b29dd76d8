"""GGUF, versions 2 and 3: the header of a file, every length and offset checked before it is believed.

    magic version num_tensors num_values  { key kind value } x num_values  { tensor } x num_tensors  padding  data

Follows `docs/gguf.md` of ggml.  Nothing is decoded that nobody asked for: arrays stay in the map.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import BadModel
from ..graph import formats
from ..graph.formats import WeightFormat
from .blocks import U8, block_items, row_bytes
from .gguf_cursor import Cursor, StringArray
from .mapping import MappedFile
from .tensor import StoredTensor

MAGIC = 0x46554747
"""The letters GGUF, read as a little-endian number."""
VERSIONS = (2, 3)
NUM_VALUES_MAX = 1 << 16
NUM_TENSORS_MAX = 1 << 16
NUM_DIMENSIONS_MAX = 4
ALIGNMENT = 32
ALIGNMENT_MAX = 1 << 16
NAME_BYTES_MAX = 256
KEY_BYTES_MAX = 1 << 16

Value = int | float | bool | str | StringArray | NDArray[np.generic]

TENSOR_FORMATS: dict[int, WeightFormat] = {
    0: formats.F32,
    1: formats.F16,
    2: formats.Q4_0,
    3: formats.Q4_1,
    6: formats.Q5_0,
    7: formats.Q5_1,
    8: formats.Q8_0,
    10: formats.Q2_K,
    11: formats.Q3_K,
    12: formats.Q4_K,
    13: formats.Q5_K,
    14: formats.Q6_K,
    20: formats.IQ4_NL,
    30: formats.BF16,
}
"""ggml's number of a tensor type -> our format."""

OTHER_TYPES = {
    9: "Q8_1", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 21: "IQ3_S", 22: "IQ2_S",
    23: "IQ4_XS", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M", 34: "TQ1_0", 35: "TQ2_0",
    39: "MXFP4",
}  # fmt: skip
"""Types that exist and that nothing here can run, so that the refusal can name them."""


@dataclass(frozen=True, slots=True, eq=False)
class GgufFile:
    """A header, read.  Numeric arrays of the metadata are NumPy views, string arrays are decoded when used."""

    mapped: MappedFile
    metadata: Mapping[str, Value]
    tensors: Mapping[str, StoredTensor]


@dataclass(frozen=True, slots=True)
class _TensorInfo:
    name: str
    shape: tuple[int, ...]
    format: WeightFormat
    offset: int

    @property
    def row_bytes(self) -> int:
        return row_bytes(self.format, self.shape[-1])

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape[:-1]) * self.row_bytes


def read_gguf(path: Path) -> GgufFile:
    """Read the header of a GGUF file and view its tensors.  Raises NotFound or BadModel, nothing else."""
    mapped = MappedFile.open(path)
    cursor = Cursor(path, mapped.data)
    num_tensors, num_values = _read_counts(cursor)
    metadata = _read_metadata(cursor, num_values)
    _refuse_parts(cursor, metadata)
    alignment = _alignment(cursor, metadata)
    infos = [_read_tensor_info(cursor) for _ in range(num_tensors)]
    data_start = -(-cursor.position // alignment) * alignment
    _check_extents(cursor, infos, data_start, alignment)
    tensors = {info.name: _view(info, mapped.data[data_start:]) for info in infos}
    return GgufFile(mapped, metadata, tensors)


def _read_counts(cursor: Cursor) -> tuple[int, int]:
    magic = cursor.u32()
    if magic != MAGIC:
        raise cursor.bad("does not begin with the letters GGUF")
    version = cursor.u32()
    if version not in VERSIONS and int.from_bytes(version.to_bytes(4, "little"), "big") in VERSIONS:
        raise cursor.bad("has big-endian numbers", fix="Convert the model again on a little-endian machine.")
    if version not in VERSIONS:
        raise cursor.bad(f"is GGUF version {version}; versions 2 and 3 are read", fix="Convert the model again.")
    num_tensors, num_values = cursor.u64(), cursor.u64()
    if num_tensors > NUM_TENSORS_MAX or num_values > NUM_VALUES_MAX:
        raise cursor.bad(
            f"claims {num_tensors} tensors and {num_values} metadata values; "
            f"at most {NUM_TENSORS_MAX} and {NUM_VALUES_MAX} are read"
        )
    return num_tensors, num_values


def _read_metadata(cursor: Cursor, num_values: int) -> dict[str, Value]:
    metadata: dict[str, Value] = {}
    for _ in range(num_values):
        key = cursor.text(KEY_BYTES_MAX, "a metadata key")
        if key in metadata:
            raise cursor.bad(f"has the metadata key {key[:80]!r} twice")
        metadata[key] = cursor.value(cursor.u32(), key)
    return metadata


def _refuse_parts(cursor: Cursor, metadata: Mapping[str, Value]) -> None:
    count = metadata.get("split.count", 1)
    if count not in (0, 1):
        raise cursor.bad(f"is one of {count} parts", fix="Join the parts with `llama-gguf-split --merge`.")


def _alignment(cursor: Cursor, metadata: Mapping[str, Value]) -> int:
    value = metadata.get("general.alignment", ALIGNMENT)
    if not isinstance(value, int) or not 1 <= value <= ALIGNMENT_MAX or value & (value - 1):
        raise cursor.bad(f"says general.alignment {value!r}; a power of two up to {ALIGNMENT_MAX} is expected")
    return value


def _read_tensor_info(cursor: Cursor) -> _TensorInfo:
    name = cursor.text(NAME_BYTES_MAX, "a tensor name")
    num_dimensions = cursor.u32()
    if not 1 <= num_dimensions <= NUM_DIMENSIONS_MAX:
        raise cursor.bad(f"gives tensor {name!r} {num_dimensions} dimensions; 1 to {NUM_DIMENSIONS_MAX} are expected")
    shape = tuple(cursor.u64() for _ in range(num_dimensions))[::-1]
    kind, offset = cursor.u32(), cursor.u64()
    if kind not in TENSOR_FORMATS:
        known = ", ".join(sorted(format.name.upper() for format in TENSOR_FORMATS.values()))
        raise cursor.bad(
            f"stores tensor {name!r} as {OTHER_TYPES.get(kind, f'type {kind}')}, which is not supported",
            fix=f"Take a file in one of {known}.",
        )
    format = TENSOR_FORMATS[kind]
    if 0 in shape or shape[-1] % block_items(format):
        raise cursor.bad(f"gives tensor {name!r} the shape {shape}, which {format.name.upper()} cannot have")
    return _TensorInfo(name, shape, format, offset)


def _check_extents(cursor: Cursor, infos: list[_TensorInfo], data_start: int, alignment: int) -> None:
    """Every tensor inside the file, on the alignment, of its own name, and over no other tensor's bytes."""
    if len({info.name for info in infos}) < len(infos):
        raise cursor.bad("has two tensors of one name")
    previous, end = "", 0
    for info in sorted(infos, key=lambda info: info.offset):
        if info.offset % alignment:
            raise cursor.bad(f"puts tensor {info.name!r} at {info.offset}, which is no multiple of {alignment}")
        if info.offset < end:
            raise cursor.bad(f"puts tensor {info.name!r} at {info.offset}, inside {previous!r} which ends at {end}")
        previous, end = info.name, info.offset + info.num_bytes
        if data_start + end > cursor.size:
            raise cursor.bad(
                f"has {cursor.size} bytes, but tensor {info.name!r} of shape {info.shape} ends at {data_start + end}"
            )


def _view(info: _TensorInfo, data: U8) -> StoredTensor:
    rows = data[info.offset : info.offset + info.num_bytes].reshape(-1, info.row_bytes)
    return StoredTensor(info.name, info.shape, info.format, rows)


def expect_text(path: Path, metadata: Mapping[str, Value], key: str) -> str | None:
    """The text under a key, or None.  Raises BadModel when something else is there."""
    value = metadata.get(key)
    if value is not None and not isinstance(value, str):
        raise BadModel(f"{path} has {type(value).__name__} under {key}; text is expected.", fix="Convert it again.")
    return value
