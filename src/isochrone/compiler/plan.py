"""The plan: a model as data.  Regions in order, where their operands live, and what it all costs.

A plan owns no memory.  Addresses are symbolic (Address) until a runtime binds them; sizes are those of the largest
step it was planned for.
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import msgspec

from .table import KvType, page_bytes

Space = Literal["weights", "arena", "cache", "angles"]


class Address(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """A place in one of the runtime's memories.

    weights  byte offset in the packed file
    arena    byte offset in the arena
    cache    byte offset in each page of the KV cache: its layer's part
    angles   index of a table of rotary angles: 2 * table for the high part of positions, + 1 for the low
    """

    space: Space
    offset: int


class Bits(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """An f32 passed in a 64-bit word."""

    value: float


Arg = int | Address | Bits


class Variant(msgspec.Struct, frozen=True, array_like=True):
    """One kernel with its arguments; item_rows rows of the extent make one work item."""

    kernel: str
    args: tuple[Arg, ...]
    item_rows: int


class Region(msgspec.Struct, frozen=True, array_like=True):
    """One entry of the table that the driver walks.

    one, many   what runs for an extent of 1, and for more
    extent      word of the step's table that counts rows
    multiplier  work items per group of rows
    barrier     whether all workers wait after it
    per_panel   whether it runs once for each panel of logit rows
    """

    name: str
    one: Variant
    many: Variant
    extent: int
    multiplier: int
    barrier: bool
    per_panel: bool


class PackedTensor(msgspec.Struct, frozen=True, array_like=True):
    """One entry of the layout table of the packed weights.

    sources     canonical names; more than one means rows one after another (QKV) or, interleaved, tile by tile
    interleave  tiles of the sources alternate (gate, up)
    kind        tiles: packed for matmul; vector: f32, padded with zeros to `columns`
    k           elements along the contraction (tiles)
    columns     output columns of each source, padded to 16 (tiles), or elements (vector)
    """

    sources: tuple[str, ...]
    kind: Literal["tiles", "vector"]
    format: str
    interleave: bool
    k: int
    columns: tuple[int, ...]
    offset: int
    num_bytes: int


class AngleTable(msgspec.Struct, frozen=True, array_like=True):
    """Rotary angles: the weight that holds the frequencies, and the factor on cos and sin."""

    inv_freq: str
    factor: float


class Limits(msgspec.Struct, frozen=True, array_like=True):
    """The largest step that a plan can run."""

    num_tokens: int = 512
    num_sequences: int = 64
    num_rows: int = 512
    partial_rows: int = 16384


class Plan(msgspec.Struct, frozen=True, array_like=True):
    """Everything a runtime needs to run a model on one target.

    kernels      name -> encoded spec (kernels.py)
    panel_begin  regions from here on run once per panel of logit rows
    tables       arena offsets of the tables that the host and AttentionItems fill, by name
    """

    target: str
    regions: tuple[Region, ...]
    panel_begin: int
    kernels: dict[str, list[Any]]
    weights: tuple[PackedTensor, ...]
    weights_bytes: int
    arena_bytes: int
    tables: dict[str, int]
    angles: tuple[AngleTable, ...]
    limits: Limits
    vocab: int
    layers: int
    kv_heads: int
    head_dim: int
    group: int
    costs: dict[str, tuple[int, int, int]]
    kv_type: KvType

    @property
    def hash(self) -> str:
        """Names the plan: same hash, same numbers."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    @property
    def page_bytes(self) -> int:
        """Bytes of one page of the KV cache over all layers and heads."""
        return self.layers * self.kv_heads * page_bytes(self.head_dim, self.kv_type)

    def to_json(self) -> str:
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> Plan:
        """Raises ValueError for what is no plan."""
        return msgspec.json.decode(text, type=cls)
