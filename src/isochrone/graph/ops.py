"""The ops, each declared once: leaves, pointwise, row and gather; `contract` and `attention` hold the rest.

Shapes: activations are f32 [tokens, width] unless stated.  A reference is the definition: plain NumPy, never
clever, never fast; kernels must agree with it.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .activations import ACTIVATIONS, Activation, gelu_tanh, silu
from .attention import Attend, Cache, Rope
from .contract import FusedLinear, GatedLinear, Linear, Q8Array, Quantise
from .ir import ROWS, TOKENS, Cost, Extents, Op, Tensor, expect, op, pointwise_cost

__all__ = [
    "Add", "Attend", "Cache", "Embed", "Exchange", "FusedLinear", "GatherRows", "Gated", "GatedLinear", "GeluTanh",
    "Input", "InputName", "Linear", "Mul", "Q8Array", "Quantise", "RmsNorm", "Rope", "Scale", "Silu", "Slice", "Weight",
]  # fmt: skip

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]


InputName = Literal["token_ids", "positions", "logit_rows"]


@op("leaf")
class Weight(Op):
    """A stored tensor.  Its shape and format come from the checkpoint, so the builder states them."""

    name: str

    def shape(self) -> Tensor:
        raise AssertionError(f"the tensor of weight {self.name} comes from the checkpoint")

    def cost(self, extents: Extents) -> Cost:
        return Cost()  # whoever reads it pays

    def reference(self) -> F32:
        raise AssertionError(f"the value of weight {self.name} comes from the checkpoint")


@op("leaf")
class Input(Op):
    """What a step brings: token_ids and positions [tokens], logit_rows [rows] (indices of tokens)."""

    name: InputName

    def shape(self) -> Tensor:
        return Tensor((ROWS if self.name == "logit_rows" else TOKENS,), "i32", "io")

    def cost(self, extents: Extents) -> Cost:
        return Cost()

    def reference(self) -> I32:
        raise AssertionError(f"the value of input {self.name} comes with the step")


@op("gather")
class Embed(Op):
    """Rows of a table: table [vocab, width], ids i32 [tokens]."""

    def shape(self, table: Tensor, ids: Tensor) -> Tensor:
        expect(len(table.shape) == 2 and ids.dtype == "i32", f"embed cannot look up {ids} in {table}")
        return Tensor((*ids.shape, table.width))

    def cost(self, extents: Extents, table: Tensor, ids: Tensor) -> Cost:
        num_ids, rows = ids.size(extents), table.size(extents) // table.width
        written = Tensor((*ids.shape, table.width)).num_bytes(extents)
        return Cost(weight_bytes=table.num_bytes(extents) * num_ids // rows, activation_bytes=written)

    def reference(self, table: F32, ids: I32) -> F32:
        return table[ids]


@op("gather")
class GatherRows(Op):
    """Rows of x by index: x [tokens, width], logit_rows i32 [rows] -> [rows, width]."""

    def shape(self, x: Tensor, logit_rows: Tensor) -> Tensor:
        expect(logit_rows.dtype == "i32", f"gather_rows needs indices, not {logit_rows}")
        return Tensor((*logit_rows.shape, x.width))

    def cost(self, extents: Extents, x: Tensor, logit_rows: Tensor) -> Cost:
        return Cost(activation_bytes=2 * self.shape(x, logit_rows).num_bytes(extents))

    def reference(self, x: F32, logit_rows: I32) -> F32:
        return x[logit_rows]


@op("row")
class RmsNorm(Op):
    """y = x / sqrt(mean(x²) + eps) · weight over each of `groups` equal slices of the last axis.

    weight f32 [width / groups].  groups = heads normalises every head apart (QK-norm).  Zhang & Sennrich 2019.
    """

    eps: float
    groups: int = 1

    def shape(self, x: Tensor, weight: Tensor) -> Tensor:
        expect(weight.shape == (x.width // self.groups,) and x.width % self.groups == 0,
               f"rms_norm of {x} in {self.groups} groups cannot take a weight of {weight}")  # fmt: skip
        return x

    def cost(self, extents: Extents, x: Tensor, weight: Tensor) -> Cost:
        return pointwise_cost(extents, 4, x) + Cost(weight_bytes=weight.num_bytes(extents))

    def reference(self, x: F32, weight: F32) -> F32:
        grouped = x.reshape(*x.shape[:-1], self.groups, x.shape[-1] // self.groups)
        normed = grouped / np.sqrt(np.mean(grouped * grouped, axis=-1, keepdims=True) + np.float32(self.eps))
        y: F32 = (normed * weight).reshape(x.shape)
        return y


@op("pointwise")
class Add(Op):
    """a + b."""

    def shape(self, a: Tensor, b: Tensor) -> Tensor:
        expect(a.shape == b.shape, f"cannot add {a} and {b}")
        return a

    def cost(self, extents: Extents, a: Tensor, b: Tensor) -> Cost:
        return pointwise_cost(extents, 1, a, b)

    def reference(self, a: F32, b: F32) -> F32:
        return a + b


@op("pointwise")
class Mul(Op):
    """a · b, element by element."""

    def shape(self, a: Tensor, b: Tensor) -> Tensor:
        expect(a.shape == b.shape, f"cannot multiply {a} and {b}")
        return a

    def cost(self, extents: Extents, a: Tensor, b: Tensor) -> Cost:
        return pointwise_cost(extents, 1, a, b)

    def reference(self, a: F32, b: F32) -> F32:
        return a * b


@op("pointwise")
class Scale(Op):
    """factor · x."""

    factor: float

    def shape(self, x: Tensor) -> Tensor:
        return x

    def cost(self, extents: Extents, x: Tensor) -> Cost:
        return pointwise_cost(extents, 1, x)

    def reference(self, x: F32) -> F32:
        return x * np.float32(self.factor)


@op("pointwise")
class Silu(Op):
    """x / (1 + exp(-x))."""

    def shape(self, x: Tensor) -> Tensor:
        return x

    def cost(self, extents: Extents, x: Tensor) -> Cost:
        return pointwise_cost(extents, 4, x)

    def reference(self, x: F32) -> F32:
        return silu(x)


@op("pointwise")
class GeluTanh(Op):
    """The tanh form of GELU.  Hendrycks & Gimpel 2016."""

    def shape(self, x: Tensor) -> Tensor:
        return x

    def cost(self, extents: Extents, x: Tensor) -> Cost:
        return pointwise_cost(extents, 8, x)

    def reference(self, x: F32) -> F32:
        return gelu_tanh(x)


@op("pointwise")
class Gated(Op):
    """act(gate) · up.  Shazeer 2020."""

    act: Activation

    def shape(self, gate: Tensor, up: Tensor) -> Tensor:
        expect(gate.shape == up.shape, f"cannot gate {up} by {gate}")
        return gate

    def cost(self, extents: Extents, gate: Tensor, up: Tensor) -> Cost:
        return pointwise_cost(extents, 5, gate, up)

    def reference(self, gate: F32, up: F32) -> F32:
        return ACTIVATIONS[self.act](gate) * up


@op("pointwise")
class Slice(Op):
    """Columns start..stop of the last axis.  A view: it moves nothing."""

    start: int
    stop: int

    def shape(self, x: Tensor) -> Tensor:
        expect(0 <= self.start < self.stop <= x.width, f"{self} reaches outside {x}")
        return Tensor((*x.shape[:-1], self.stop - self.start), x.dtype, x.storage)

    def cost(self, extents: Extents, x: Tensor) -> Cost:
        return Cost()

    def reference(self, x: F32) -> F32:
        return x[..., self.start : self.stop]


@op("exchange")
class Exchange(Op):
    """Join the parts of `world` machines: all_reduce sums them, all_gather lays them side by side.

    The reference is that of a world of one; `drop_no_ops` removes it there.
    """

    exchange: Literal["all_reduce", "all_gather"]
    world: int = 1

    def shape(self, x: Tensor) -> Tensor:
        if self.exchange == "all_reduce":
            return x
        return Tensor((*x.shape[:-1], x.width * self.world), x.dtype, x.storage)

    def cost(self, extents: Extents, x: Tensor) -> Cost:
        return Cost(flops=(self.world - 1) * x.size(extents), activation_bytes=2 * self.world * x.num_bytes(extents))

    def reference(self, x: F32) -> F32:
        expect(self.world == 1, f"{self} needs its {self.world} machines")
        return x
