"""A pleasant way to write a model: every call adds one node and returns its id."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from .activations import Activation
from .formats import WeightFormat
from .ir import Graph, Node, Op, Tensor
from .ops import Add, Attend, Embed, Gated, GatherRows, Input, InputName, Linear, RmsNorm, Rope, Scale, Slice, Weight


class TensorInfo(Protocol):
    """What the builder must know of a stored tensor."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def format(self) -> WeightFormat: ...


class Builder:
    """Collects nodes.  Weights are named by their canonical names and may be read many times.

    tensors  canonical name -> shape and format of everything that the model may read
    """

    def __init__(self, tensors: Mapping[str, TensorInfo]) -> None:
        self._tensors = tensors
        self._nodes: list[Node] = []
        self._leaves: dict[Op, int] = {}

    def graph(self, *outputs: int) -> Graph:
        """The finished graph."""
        return Graph(tuple(self._nodes), outputs)

    def apply(self, op: Op, *inputs: int, name: str) -> int:
        """Add a node that applies `op`."""
        nodes = self._nodes
        output = op.shape(*[nodes[i].output for i in inputs])
        nodes.append(Node(op, inputs, output, name))
        return len(nodes) - 1

    def input(self, name: InputName) -> int:
        """What a step brings."""
        op = Input(name)
        return self._leaf(op, op.shape(), name)

    def weight(self, name: str) -> int:
        """A stored tensor by its canonical name."""
        op = Weight(name)
        if op in self._leaves:
            return self._leaves[op]
        info = self._tensors[name]
        return self._leaf(op, Tensor(tuple(info.shape), info.format, "weight"), name)

    def _leaf(self, op: Op, output: Tensor, name: str) -> int:
        if op not in self._leaves:
            self._nodes.append(Node(op, (), output, name))
            self._leaves[op] = len(self._nodes) - 1
        return self._leaves[op]

    def embed(self, table: str, ids: int) -> int:
        """Rows of the table for the ids."""
        return self.apply(Embed(), self.weight(table), ids, name="embed")

    def linear(self, x: int, weight: str) -> int:
        """x times a weight, plus `weight`.bias where the checkpoint has one."""
        bias = f"{weight}.bias"
        if bias in self._tensors:
            return self.apply(Linear(bias=True), x, self.weight(weight), self.weight(bias), name=weight)
        return self.apply(LINEAR, x, self.weight(weight), name=weight)

    def rms_norm(self, x: int, weight: str, eps: float, groups: int = 1) -> int:
        """RMS norm with a weight."""
        return self.apply(RmsNorm(eps, groups), x, self.weight(weight), name=weight)

    def rope(self, x: int, positions: int, op: Rope, inv_freq: str, name: str) -> int:
        """Turn queries or keys by their positions."""
        return self.apply(op, x, positions, self.weight(inv_freq), name=name)

    def attend(self, q: int, k: int, v: int, op: Attend, name: str) -> int:
        """Append to the cache and attend."""
        return self.apply(op, q, k, v, name=name)

    def gated(self, gate: int, up: int, act: Activation, name: str) -> int:
        """act(gate) · up."""
        return self.apply(Gated(act), gate, up, name=name)

    def add(self, a: int, b: int, name: str) -> int:
        """a + b."""
        return self.apply(ADD, a, b, name=name)

    def scale(self, x: int, factor: float, name: str) -> int:
        """factor · x."""
        return self.apply(Scale(factor), x, name=name)

    def slice(self, x: int, start: int, stop: int, name: str) -> int:
        """Columns start..stop."""
        return self.apply(Slice(start, stop), x, name=name)

    def gather_rows(self, x: int, logit_rows: int) -> int:
        """The rows whose logits are wanted."""
        return self.apply(GatherRows(), x, logit_rows, name="logit_rows_of_x")


LINEAR, ADD = Linear(), Add()
