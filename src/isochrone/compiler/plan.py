"""The plan: a model as data.  Regions in order, where their operands live, and what it all costs.

A plan owns no memory.  Addresses are symbolic (Address) until a runtime binds them; sizes are those of the largest
step it was planned for.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal

from ..graph.ir import Cost
from .pages import KvType, page_bytes

Space = Literal["weights", "arena", "cache", "angles"]


@dataclass(frozen=True, slots=True)
class Address:
    """A place in one of the runtime's memories.

    weights  byte offset in the packed file
    arena    byte offset in the arena
    cache    byte offset in each page of the KV cache: its layer's part
    angles   index of a table of rotary angles: 2 * table for the high part of positions, + 1 for the low
    """

    space: Space
    offset: int


@dataclass(frozen=True, slots=True)
class Bits:
    """An f32 passed in a 64-bit word."""

    value: float


Arg = int | Address | Bits


@dataclass(frozen=True, slots=True)
class Variant:
    """One kernel with its arguments; item_rows rows of the extent make one work item."""

    kernel: str
    args: tuple[Arg, ...]
    item_rows: int


@dataclass(frozen=True, slots=True)
class Region:
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


@dataclass(frozen=True, slots=True)
class PackedTensor:
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


@dataclass(frozen=True, slots=True)
class AngleTable:
    """Rotary angles: the weight that holds the frequencies, and the factor on cos and sin."""

    inv_freq: str
    factor: float


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest step that a plan can run."""

    num_tokens: int = 512
    num_sequences: int = 64
    num_rows: int = 512
    partial_rows: int = 16384


@dataclass(frozen=True, slots=True)
class Plan:
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
        return json.dumps(_encode(self), separators=(",", ":"), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        plan = _decode(json.loads(text))
        assert isinstance(plan, Plan)
        return plan


def cost_of(plan: Plan, name: str) -> Cost:
    """The price of a region at one token."""
    return Cost(*plan.costs[name])


_CLASSES = {c.__name__: c for c in (Address, Bits, Variant, Region, PackedTensor, AngleTable, Limits, Plan)}


def _encode(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [_encode(getattr(value, f.name)) for f in dataclasses.fields(value)]
        return {"": type(value).__name__, "f": fields}
    if isinstance(value, tuple | list):
        return [_encode(v) for v in value]
    if isinstance(value, dict):
        return {k: _encode(v) for k, v in value.items()}
    return value


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_decode(v) for v in value)
    if isinstance(value, dict):
        if "" in value:
            return _CLASSES[value[""]](*(_decode(v) for v in value["f"]))
        return {k: _decode(v) for k, v in value.items()}
    return value
