"""The contractions, and the quantised activations that feed them.

Weights are [N, K]: one row per output column.  A weight stored as integer codes takes a q8 input once the graph
is lowered, and the reference then computes with the quantised activations.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .activations import ACTIVATIONS, Activation
from .formats import BLOCK
from .ir import Cost, Extents, Op, Tensor, expect, op

F32 = NDArray[np.float32]


class Q8Array(NamedTuple):
    """Activations as int8 codes [..., width] with f32 scales [..., width / 32]."""

    codes: NDArray[np.int8]
    scales: F32

    def to_f32(self) -> F32:
        """The numbers that the codes stand for."""
        blocks = self.codes.reshape(*self.scales.shape, BLOCK).astype(np.float32)
        y: F32 = (blocks * self.scales[..., None]).reshape(self.codes.shape)
        return y


def _values(x: F32 | Q8Array) -> F32:
    return x.to_f32() if isinstance(x, Q8Array) else x


def _contract_shape(x: Tensor, weights: tuple[Tensor, ...], columns: int) -> Tensor:
    for weight in weights:
        expect(len(weight.shape) == 2 and weight.width == x.width, f"a weight of {weight} cannot take {x}")
        expect(x.dtype == "f32" or (x.dtype == "q8" and weight.is_quantised), f"{weight} cannot take {x}")
    return Tensor((*x.shape[:-1], columns))


def _contract_cost(extents: Extents, x: Tensor, weights: tuple[Tensor, ...], extra: tuple[Tensor, ...]) -> Cost:
    """Price of multiplying x by all weights; `extra` are the biases."""
    num_rows = x.size(extents) // x.width
    weight_bytes = sum(w.num_bytes(extents) for w in (*weights, *extra))
    flops = sum(2 * num_rows * w.size(extents) for w in weights) + sum(num_rows * b.width for b in extra)
    return Cost(flops, weight_bytes, x.num_bytes(extents))


def _columns(weight: Tensor) -> int:
    columns = weight.shape[0]
    assert isinstance(columns, int)
    return columns


@op("row")
class Quantise(Op):
    """Symmetric int8 per block of 32 along the last axis.

    scale = absmax / 127 in f32; code = round-half-even(x / scale) within ±127; scale and codes 0 when absmax is 0.
    """

    def shape(self, x: Tensor) -> Tensor:
        expect(x.dtype == "f32" and x.width % BLOCK == 0, f"cannot quantise {x} in blocks of {BLOCK}")
        return Tensor(x.shape, "q8")

    def cost(self, extents: Extents, x: Tensor) -> Cost:
        return Cost(
            flops=4 * x.size(extents),
            activation_bytes=x.num_bytes(extents) + Tensor(x.shape, "q8").num_bytes(extents),
        )

    def reference(self, x: F32) -> Q8Array:
        blocks = x.reshape(*x.shape[:-1], x.shape[-1] // BLOCK, BLOCK)
        scales = (np.abs(blocks).max(axis=-1) / np.float32(127)).astype(np.float32)
        divisor = np.where(scales == 0, np.float32(1), scales)
        codes = np.clip(np.rint(blocks / divisor[..., None]), -127, 127).astype(np.int8)
        return Q8Array(codes.reshape(x.shape), scales)


@op("contract")
class Linear(Op):
    """y = x · weightᵀ (+ bias) (+ residual).

    inputs: x [.., K], weight [N, K], then bias [N] if `bias`, then residual [.., N] if `residual`
    """

    bias: bool = False
    residual: bool = False

    def shape(self, x: Tensor, weight: Tensor, *extra: Tensor) -> Tensor:
        y = _contract_shape(x, (weight,), _columns(weight))
        expect(len(extra) == self.bias + self.residual, f"{self} cannot take {len(extra)} extra inputs")
        expect(not self.bias or extra[0].shape == (y.width,), f"a bias cannot be {extra[:1]} for {y}")
        expect(not self.residual or extra[-1].shape == y.shape, f"a residual cannot be {extra[-1:]} for {y}")
        return y

    def cost(self, extents: Extents, x: Tensor, weight: Tensor, *extra: Tensor) -> Cost:
        y = Tensor((*x.shape[:-1], _columns(weight)))
        price = _contract_cost(extents, x, (weight,), extra[: self.bias])
        traffic = (1 + self.residual) * y.num_bytes(extents)
        return price + Cost(flops=self.residual * y.size(extents), activation_bytes=traffic)

    def reference(self, x: F32 | Q8Array, weight: F32, *extra: F32) -> F32:
        y: F32 = _values(x) @ weight.T
        for term in extra:
            y = y + term
        return y


@op("contract")
class FusedLinear(Op):
    """Several linears of one input side by side; each weight keeps its own format.

    inputs: x [.., K], one weight [splits[i], K] each, then one bias [splits[i]] each if `bias`;
    the output is [.., sum(splits)]
    """

    splits: tuple[int, ...]
    bias: bool = False

    def shape(self, x: Tensor, *tensors: Tensor) -> Tensor:
        weights, biases = tensors[: len(self.splits)], tensors[len(self.splits) :]
        expect(tuple(w.shape[0] for w in weights) == self.splits, f"{self} cannot take {weights}")
        expect(len(biases) == self.bias * len(self.splits), f"{self} cannot take {len(biases)} biases")
        return _contract_shape(x, weights, sum(self.splits))

    def cost(self, extents: Extents, x: Tensor, *tensors: Tensor) -> Cost:
        y = Tensor((*x.shape[:-1], sum(self.splits)))
        price = _contract_cost(extents, x, tensors[: len(self.splits)], tensors[len(self.splits) :])
        return price + Cost(activation_bytes=y.num_bytes(extents))

    def reference(self, x: F32 | Q8Array, *arrays: F32) -> F32:
        values, count = _values(x), len(self.splits)
        parts = [values @ weight.T for weight in arrays[:count]]
        if self.bias:
            parts = [part + bias for part, bias in zip(parts, arrays[count:], strict=True)]
        return np.concatenate(parts, axis=-1)


@op("contract")
class GatedLinear(Op):
    """act(x · gateᵀ (+ bias)) · (x · upᵀ (+ bias)): both halves of a gated MLP in one reading of x.

    inputs: x [.., K], gate [N, K], up [N, K], then the gate's and the up's bias [N] if `bias`
    """

    act: Activation
    bias: bool = False

    def shape(self, x: Tensor, gate: Tensor, up: Tensor, *biases: Tensor) -> Tensor:
        expect(gate == up, f"the halves {gate} and {up} share no kernel")
        expect(len(biases) == 2 * self.bias, f"{self} cannot take {len(biases)} biases")
        return _contract_shape(x, (gate, up), _columns(gate))

    def cost(self, extents: Extents, x: Tensor, gate: Tensor, up: Tensor, *biases: Tensor) -> Cost:
        y = Tensor((*x.shape[:-1], _columns(gate)))
        price = _contract_cost(extents, x, (gate, up), biases)
        return price + Cost(flops=5 * y.size(extents), activation_bytes=y.num_bytes(extents))

    def reference(self, x: F32 | Q8Array, gate: F32, up: F32, *biases: F32) -> F32:
        values = _values(x)
        gated, linear = values @ gate.T, values @ up.T
        if self.bias:
            gated, linear = gated + biases[0], linear + biases[1]
        y: F32 = ACTIVATIONS[self.act](gated) * linear
        return y
