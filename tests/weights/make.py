"""Small model files, true ones and lying ones, and random blocks of every format."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isochrone.graph.formats import FORMATS, Plain, WeightFormat
from isochrone.weights.blocks import BLOCK_DTYPES, row_bytes
from isochrone.weights.gguf import MAGIC, TENSOR_FORMATS

TENSOR_TYPES = {format.name: kind for kind, format in TENSOR_FORMATS.items()}
ALL_FORMATS = list(FORMATS.values())
QUANTISED = [format for format in ALL_FORMATS if not isinstance(format, Plain)]


def random_rows(format: WeightFormat, rows: int, k: int, seed: int) -> NDArray[np.uint8]:
    """Stored rows u8 [rows, row_bytes] of any codes and of scales that are finite."""
    rng = np.random.default_rng(seed)
    raw = rng.integers(0, 256, (rows, row_bytes(format, k)), dtype=np.uint8)
    if isinstance(format, Plain):
        values = rng.standard_normal((rows, k)).astype(np.float32)
        if format.name == "bf16":
            return (values.view(np.uint32) >> 16).astype("<u2").view(np.uint8)
        return values.astype(f"<f{format.item_bytes}").view(np.uint8)
    blocks = raw.view(BLOCK_DTYPES[format.name])
    for name in {"d", "m", "dmin"} & set(blocks.dtype.names):
        blocks[name] = rng.standard_normal(blocks.shape)
    return raw


@dataclass
class Gguf:
    """A GGUF file to be written; every field may lie.  values: (key, type, payload bytes)."""

    version: int = 3
    magic: int = MAGIC
    values: list[tuple[bytes, int, bytes]] = field(default_factory=list)
    tensors: list[tuple[bytes, tuple[int, ...], int, int]] = field(default_factory=list)
    data: bytes = b""
    num_values: int | None = None
    num_tensors: int | None = None
    alignment: int = 32

    def text(self, key: str, value: str) -> Gguf:
        self.values.append((key.encode(), 8, text(value)))
        return self

    def u32(self, key: str, value: int) -> Gguf:
        self.values.append((key.encode(), 4, struct.pack("<I", value)))
        return self

    def texts(self, key: str, values: list[str]) -> Gguf:
        payload = struct.pack("<IQ", 8, len(values)) + b"".join(text(value) for value in values)
        self.values.append((key.encode(), 9, payload))
        return self

    def tensor(self, name: str, format: WeightFormat, rows: NDArray[np.uint8], shape: tuple[int, ...]) -> Gguf:
        self.data += b"\0" * (-len(self.data) % self.alignment)
        self.tensors.append((name.encode(), shape, TENSOR_TYPES[format.name], len(self.data)))
        self.data += rows.tobytes()
        return self

    def bytes(self) -> bytes:
        num_tensors = len(self.tensors) if self.num_tensors is None else self.num_tensors
        num_values = len(self.values) if self.num_values is None else self.num_values
        out = struct.pack("<IIQQ", self.magic, self.version, num_tensors, num_values)
        for key, kind, payload in self.values:
            out += struct.pack("<Q", len(key)) + key + struct.pack("<I", kind) + payload
        for name, shape, kind, offset in self.tensors:
            out += struct.pack("<Q", len(name)) + name + struct.pack("<I", len(shape))
            out += b"".join(struct.pack("<Q", size) for size in reversed(shape)) + struct.pack("<IQ", kind, offset)
        return out + b"\0" * (-len(out) % self.alignment) + self.data

    def write(self, path: Path) -> Path:
        path.write_bytes(self.bytes())
        return path


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def small_gguf(seed: int = 0) -> Gguf:
    """A file with a value of most kinds and a tensor of every format."""
    file = (
        Gguf().text("general.architecture", "llama").text("general.license", "apache-2.0").u32("llama.block_count", 2)
    )
    file.texts("tokenizer.ggml.tokens", ["<s>", "a", "é", "", "日本"]).text("tokenizer.chat_template", "{{ messages }}")
    file.values.append((b"numbers", 9, struct.pack("<IQ3f", 6, 3, 1.5, -2.0, 0.25)))
    file.values.append((b"truth", 7, b"\1"))
    for format in ALL_FORMATS:
        file.tensor(f"{format.name}.weight", format, random_rows(format, 3, 256, seed), (3, 256))
    return file.tensor("norm.weight", FORMATS["f32"], random_rows(FORMATS["f32"], 1, 40, seed), (40,))


def safetensors_bytes(header: Any, data: bytes, num_bytes: int | None = None) -> bytes:
    """A safetensors file of any header, with a true length of it or another."""
    packed = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(packed) if num_bytes is None else num_bytes) + packed + data


def small_safetensors(tensors: dict[str, NDArray[Any]]) -> bytes:
    """A true safetensors file.  u2 arrays are BF16."""
    kinds = {"float32": "F32", "float16": "F16", "uint16": "BF16", "int64": "I64"}
    header, data = {}, b""
    for name, array in tensors.items():
        offsets = [len(data), len(data) + array.nbytes]
        header[name] = {"dtype": kinds[array.dtype.name], "shape": list(array.shape), "data_offsets": offsets}
        data += array.tobytes()
    return safetensors_bytes(header, data)
