"""Safetensors: a JSON header of names, types and extents, then the tensors' bytes without gaps.

The header is data from strangers: its length, its JSON and every extent are checked before a tensor is viewed.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import BadModel
from ..graph import formats
from .mapping import MappedFile
from .tensor import StoredTensor

HEADER_BYTES_MAX = 1 << 25
"""Longest header that is parsed: a model of 100,000 tensors needs 12 MB."""
NUM_TENSORS_MAX = 1 << 17
NUM_DIMENSIONS_MAX = 8

FORMATS = {"F32": formats.F32, "F16": formats.F16, "BF16": formats.BF16}
OTHER_ITEM_BYTES = {
    "F64": 8, "I64": 8, "U64": 8, "I32": 4, "U32": 4, "I16": 2, "U16": 2, "I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1,
    "F8_E5M2": 1,
}  # fmt: skip
"""Types that may lie in a file beside its weights, and that no weight may have."""


@dataclass(frozen=True, slots=True, eq=False)
class SafetensorsFile:
    """A header, read.  other_types: name -> type of the tensors that cannot be weights here."""

    mapped: MappedFile
    tensors: Mapping[str, StoredTensor]
    other_types: Mapping[str, str]


def read_safetensors(path: Path) -> SafetensorsFile:
    """Read the header of a safetensors file and view its tensors.  Raises NotFound or BadModel, nothing else."""
    mapped = MappedFile.open(path)
    header, data_start = _header(mapped)
    tensors: dict[str, StoredTensor] = {}
    other_types: dict[str, str] = {}
    extents = []
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        kind, shape, start, stop = _entry(path, name, entry)
        extents.append((start, stop, name))
        if kind in FORMATS:
            data = mapped.data[data_start + start : data_start + stop]
            tensors[name] = StoredTensor(name, shape, FORMATS[kind], data)
        else:
            other_types[name] = kind
    _check_extents(path, extents, len(mapped.data) - data_start)
    # Views get their rows only now: before the check a lying extent has another length than its shape.
    for name, tensor in tensors.items():
        rows = math.prod(tensor.shape[:-1])
        tensors[name] = StoredTensor(name, tensor.shape, tensor.format, tensor.data.reshape(rows, -1))
    return SafetensorsFile(mapped, tensors, other_types)


def parse_json(path: Path, text: bytes) -> dict[str, Any]:
    """A JSON object from a stranger: no key twice, no nesting that exhausts the stack.  Raises BadModel."""
    try:
        value = json.loads(text.decode(), object_pairs_hook=lambda pairs: _once(path, pairs))
    except (ValueError, RecursionError) as error:
        raise _bad(path, f"is no JSON: {str(error)[:200]}") from error
    if not isinstance(value, dict):
        raise _bad(path, f"holds {type(value).__name__} where a JSON object is expected")
    return value


def _bad(path: Path, claim: str) -> BadModel:
    return BadModel(f"{path} {claim}.", fix="Download the file again: it is damaged, or not what its name says.")


def _once(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = dict(pairs)
    if len(keys) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        raise _bad(path, f"has the key {counts.most_common(1)[0][0][:80]!r} twice")
    return keys


def _header(mapped: MappedFile) -> tuple[dict[str, Any], int]:
    size = len(mapped.data)
    num_bytes = int.from_bytes(mapped.data[:8].tobytes(), "little")
    if size < 8 or num_bytes > size - 8:
        raise _bad(mapped.path, f"has {size} bytes, but a header of {num_bytes}")
    if num_bytes > HEADER_BYTES_MAX:
        raise _bad(mapped.path, f"has a header of {num_bytes} bytes; at most {HEADER_BYTES_MAX} are read")
    header = parse_json(mapped.path, mapped.data[8 : 8 + num_bytes].tobytes())
    if len(header) > NUM_TENSORS_MAX:
        raise _bad(mapped.path, f"has {len(header)} tensors; at most {NUM_TENSORS_MAX} are read")
    return header, 8 + num_bytes


def _entry(path: Path, name: str, entry: Any) -> tuple[str, tuple[int, ...], int, int]:
    """One tensor's (type, shape, start, stop); its length fits its shape."""
    match entry:
        case {"dtype": str(kind), "shape": list(shape), "data_offsets": [int(start), int(stop)]}:
            pass
        case _:
            raise _bad(path, f"describes tensor {name[:80]!r} without a type, a shape and two offsets")
    if len(shape) > NUM_DIMENSIONS_MAX or not all(type(size) is int and 0 < size < 1 << 48 for size in shape):
        raise _bad(path, f"gives tensor {name[:80]!r} a shape of {len(shape)} dimensions that no tensor can have")
    item_bytes = FORMATS[kind].item_bytes if kind in FORMATS else OTHER_ITEM_BYTES.get(kind)
    if item_bytes is None:
        raise _bad(path, f"stores tensor {name[:80]!r} as {kind[:20]!r}, which is not supported")
    num_bytes = math.prod(shape) * item_bytes
    if not 0 <= start <= stop or stop - start != num_bytes:
        raise _bad(path, f"puts tensor {name[:80]!r} of {num_bytes} bytes between {start} and {stop}")
    return kind, tuple(shape), start, stop


def _check_extents(path: Path, extents: list[tuple[int, int, str]], size: int) -> None:
    """The tensors fill the data, one after another."""
    end = 0
    for start, stop, name in sorted(extents):
        if start != end:
            raise _bad(path, f"puts tensor {name[:80]!r} at {start}, where {end} is expected")
        end = stop
    if end != size:
        raise _bad(path, f"has {size} bytes of data, but its tensors end at {end}")
