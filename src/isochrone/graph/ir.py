"""The SSA graph: tensors with run-time extents, nodes that apply one op, and the graph they form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar, cast, dataclass_transform

from .formats import BLOCK, COLUMNS, Quantised, WeightFormat

Storage = Literal["weight", "arena", "io"]
Level = Literal["model", "fused", "lowered"]
"""As a model writes it; between passes; as the compiler takes it."""
OpKind = Literal["leaf", "pointwise", "row", "contract", "attend", "gather", "exchange"]


@dataclass(frozen=True, slots=True)
class Dim:
    """An extent known only when a step runs, lo..hi inclusive."""

    name: Literal["tokens", "rows"]
    lo: int
    hi: int

    def __str__(self) -> str:
        return self.name


TOKENS = Dim("tokens", 1, 1 << 20)
"""New tokens of a step, over all its sequences."""
ROWS = Dim("rows", 0, 1 << 20)
"""Rows of a step whose logits are wanted."""


@dataclass(frozen=True, slots=True)
class Extents:
    """What the run-time dimensions are in one step, for costs.

    depth          cached positions that a token attends to, on average
    kv_item_bytes  bytes of one element of the KV cache
    """

    tokens: int = 1
    rows: int = 1
    depth: int = 0
    kv_item_bytes: int = 2

    def of(self, extent: int | Dim) -> int:
        """The number behind an extent."""
        if isinstance(extent, int):
            return extent
        return self.tokens if extent.name == "tokens" else self.rows


@dataclass(frozen=True, slots=True)
class Tensor:
    """Shape, element type and home of a value.

    dtype  a weight format; f32; i32; q8 = int8 codes with one f32 scale per block of 32 along the last axis
    """

    shape: tuple[int | Dim, ...]
    dtype: WeightFormat | Literal["f32", "i32", "q8"] = "f32"
    storage: Storage = "arena"

    def __str__(self) -> str:
        dtype = self.dtype if isinstance(self.dtype, str) else self.dtype.name
        return f"{dtype}[{', '.join(map(str, self.shape))}]"

    @property
    def width(self) -> int:
        """Extent of the last axis, which is never a run-time one except for vectors of ids."""
        last = self.shape[-1]
        assert isinstance(last, int), f"{self} has no fixed last axis"
        return last

    @property
    def is_quantised(self) -> bool:
        """Whether this is a weight stored as integer codes."""
        return isinstance(self.dtype, Quantised)

    def size(self, extents: Extents) -> int:
        """Number of elements in a step."""
        size = 1
        for extent in self.shape:
            size *= extents.of(extent)
        return size

    def num_bytes(self, extents: Extents) -> int:
        """Bytes this value takes in a step; weights as packed, whole tiles of 16 columns."""
        if isinstance(self.dtype, Quantised):
            columns = self.size(extents) // self.width
            return -(-columns // COLUMNS) * self.dtype.tile_bytes(self.width)
        size = self.size(extents)
        if self.dtype == "q8":
            return size + size // BLOCK * 4
        return size * (4 if isinstance(self.dtype, str) else self.dtype.item_bytes)


@dataclass(frozen=True, slots=True)
class Cost:
    """Arithmetic and traffic of a node in one step.

    weight_bytes      packed weights read
    activation_bytes  activations read and written, the KV cache included
    """

    flops: int = 0
    weight_bytes: int = 0
    activation_bytes: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.flops + other.flops,
            self.weight_bytes + other.weight_bytes,
            self.activation_bytes + other.activation_bytes,
        )


class Op:
    """One operation, declared once: shape rule, price and meaning.

    Subclasses name the inputs they take; `*args: Any` only says here that each names its own.
    """

    __slots__ = ()
    kind: ClassVar[OpKind]
    has_cache: ClassVar[bool] = False
    """Whether the reference also takes the KV cache, as its last argument."""

    def shape(self, *args: Any, **kwargs: Any) -> Tensor:
        """The output for these input tensors; an assertion fails where they do not fit."""
        raise NotImplementedError

    def cost(self, extents: Extents, *args: Any) -> Cost:
        """The price of one step over these input tensors."""
        raise NotImplementedError

    def reference(self, *args: Any) -> Any:
        """The meaning, in plain NumPy over float32."""
        raise NotImplementedError


OPS: dict[str, type[Op]] = {}
"""Every op by its name."""

_O = TypeVar("_O", bound=type[Op])


@dataclass_transform(frozen_default=True)
def op(kind: OpKind) -> Callable[[_O], _O]:
    """Declare an op: a frozen record of its attributes that has shape, cost and reference of its own."""

    def declare(cls: _O) -> _O:
        missing = [name for name in ("shape", "cost", "reference") if name not in vars(cls)]
        assert not missing, f"{cls.__name__} lacks {missing}"
        cls.kind = kind
        made = cast(_O, dataclass(frozen=True, slots=True)(cls))
        OPS[made.__name__] = made
        return made

    return declare


@dataclass(frozen=True, slots=True)
class Node:
    """One application of an op.  Its id is its index in the graph; inputs are ids of earlier nodes."""

    op: Op
    inputs: tuple[int, ...]
    output: Tensor
    name: str


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes in an order that can be executed, and which of them are the results."""

    nodes: tuple[Node, ...]
    outputs: tuple[int, ...]
    level: Level = "model"

    def input_tensors(self, node: Node) -> list[Tensor]:
        """The tensors that a node reads, in the order of its inputs."""
        nodes = self.nodes
        return [nodes[i].output for i in node.inputs]

    def consumers(self) -> list[list[int]]:
        """For each node the ids that read it, ascending; a node that reads it twice stands twice."""
        consumers: list[list[int]] = [[] for _ in self.nodes]
        for i, node in enumerate(self.nodes):
            for j in node.inputs:
                consumers[j].append(i)
        return consumers


def expect(condition: bool, sentence: str) -> None:
    """A shape rule: models check files before they build, so a breach is our own mistake."""
    if not condition:
        raise AssertionError(sentence)


def pointwise_cost(extents: Extents, flops: int, *tensors: Tensor) -> Cost:
    """Price of an op that reads each of `tensors` once and writes one like the first."""
    traffic = sum(t.num_bytes(extents) for t in tensors) + tensors[0].num_bytes(extents)
    return Cost(flops=flops * tensors[0].size(extents), activation_bytes=traffic)


def node_cost(graph: Graph, node: Node, extents: Extents) -> Cost:
    """The price of one node in one step."""
    return node.op.cost(extents, *graph.input_tensors(node))


def graph_cost(graph: Graph, extents: Extents) -> Cost:
    """The price of a whole step."""
    total = Cost()
    for node in graph.nodes:
        total = total + node_cost(graph, node, extents)
    return total
