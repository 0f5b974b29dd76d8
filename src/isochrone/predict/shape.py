"""From the numbers of a config alone: how many parameters and bytes a model has, and what a step of it costs.

Nothing is downloaded and no graph is built, so a question about a model of any size costs microseconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from isochrone.graph.formats import BF16, COLUMNS, F32, Q4_1, Q8_0, Plain, WeightFormat

from .cost import RegionCost, StepCost


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The sizes of a decoder of the Llama kind, as its config states them.

    window   positions that sliding attention looks back, None for all
    """

    hidden: int
    intermediate: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab: int
    context: int
    is_tied: bool
    has_qkv_bias: bool = False
    has_qk_norm: bool = False
    window: int | None = None

    @property
    def layer_matrices(self) -> dict[str, tuple[int, int]]:
        """The matrices of one layer as (rows = outputs, columns = inputs)."""
        kv = self.num_kv_heads * self.head_dim
        return {
            "qkv": (self.num_heads * self.head_dim + 2 * kv, self.hidden),
            "o": (self.hidden, self.num_heads * self.head_dim),
            "gate_up": (2 * self.intermediate, self.hidden),
            "down": (self.hidden, self.intermediate),
        }

    @property
    def num_layer_weights(self) -> int:
        """Elements of one layer's matrices."""
        return sum(n * k for n, k in self.layer_matrices.values())

    @property
    def num_vectors(self) -> int:
        """Elements of all norms and biases, which stay f32."""
        qkv = self.layer_matrices["qkv"][0]
        layer = 2 * self.hidden + self.has_qk_norm * 2 * self.head_dim + self.has_qkv_bias * qkv
        return self.num_layers * layer + self.hidden

    @property
    def num_parameters(self) -> int:
        """All parameters, a tied table counted once."""
        tables = self.vocab * self.hidden * (1 if self.is_tied else 2)
        return self.num_layers * self.num_layer_weights + self.num_vectors + tables


@dataclass(frozen=True, slots=True)
class Form:
    """How a model's weights are held: the layers' matrices and the two tables of vocabulary size."""

    name: str
    body: WeightFormat
    head: WeightFormat


FORMS: dict[str, Form] = {
    form.name: form
    for form in (Form("f32", F32, F32), Form("bf16", BF16, BF16), Form("int8", Q8_0, Q8_0), Form("int4", Q4_1, Q8_0))
}
"""What `--weights` offers, best quality first."""
AUTOMATIC_FORMS = ("bf16", "int8", "int4")
"""What is chosen from when nobody names a form: f32 holds nothing that a checkpoint in bf16 does not."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """New tokens of one sequence in one step; decoding is a chunk of one token.

    start  positions that are in the cache already
    """

    start: int
    num_tokens: int


def matrix_bytes(format: WeightFormat, rows: int, columns: int) -> int:
    """Packed bytes of a weight: 16 output columns to a tile, the last one padded."""
    tiles = -(-rows // COLUMNS)
    if isinstance(format, Plain):
        return tiles * COLUMNS * columns * format.item_bytes
    return tiles * format.tile_bytes(columns)


def weight_bytes(shape: ModelShape, form: Form) -> int:
    """Packed bytes of the whole model."""
    layer = sum(matrix_bytes(form.body, n, k) for n, k in shape.layer_matrices.values())
    tables = matrix_bytes(form.head, shape.vocab, shape.hidden) * (1 if shape.is_tied else 2)
    return shape.num_layers * layer + tables + 4 * shape.num_vectors


def kv_bytes_per_token(shape: ModelShape, kv_item_bytes: float) -> float:
    """Bytes of keys and values that one position keeps, all layers."""
    return 2 * shape.num_layers * shape.num_kv_heads * shape.head_dim * kv_item_bytes


def kv_item_bytes(kv_type: Literal["bf16", "int8"], head_dim: int) -> float:
    """Bytes of one number of the KV cache; int8 has an f32 scale for each position and head beside its codes."""
    return 2.0 if kv_type == "bf16" else 1.0 + 4.0 / head_dim


BARRIERS = {"qkv": 3, "attend": 3, "o": 1, "gate_up": 2, "down": 2, "lm_head": 3}
"""Barriers behind each matmul and its neighbours in the compiled plan: norms, rotary turns and quantising included."""


@dataclass(frozen=True, slots=True)
class ShapeCost:
    """The cost of any step of a model, from its shape.

    has_bf16_dot   attention runs in bf16 dots, as the instruction set allows
    """

    shape: ModelShape
    form: Form
    kv_item_bytes: float = 2.0
    has_bf16_dot: bool = False

    def step(self, chunks: Iterable[Chunk], num_rows: int) -> StepCost:
        """What one step asks for: these chunks through every layer, the head for num_rows of them."""
        chunks = tuple(chunks)
        tokens = sum(chunk.num_tokens for chunk in chunks)
        layers = self.shape.num_layers
        regions = [
            self._matmul(name, n, k, tokens, self.form.body, layers)
            for name, (n, k) in self.shape.layer_matrices.items()
        ]
        regions.insert(1, self._attend(chunks))
        regions.append(self._matmul("lm_head", self.shape.vocab, self.shape.hidden, num_rows, self.form.head, 1))
        return StepCost(tuple(regions))

    def _matmul(self, name: str, n: int, k: int, tokens: int, format: WeightFormat, count: int) -> RegionCost:
        operations = 2.0 * n * k * tokens
        is_plain = isinstance(format, Plain)
        return RegionCost(
            name,
            read_bytes=matrix_bytes(format, n, k) if tokens else 0,
            int8_ops=0.0 if is_plain else operations,
            fp32_flops=operations if is_plain else 0.0,
            num_barriers=BARRIERS[name],
            count=count,
        )

    def _attend(self, chunks: tuple[Chunk, ...]) -> RegionCost:
        shape = self.shape
        pairs = sum(attended(chunk, shape.window) for chunk in chunks)
        cached = sum(min(chunk.start, shape.window or chunk.start) + chunk.num_tokens for chunk in chunks)
        flops = 4.0 * shape.num_heads * shape.head_dim * pairs
        return RegionCost(
            "attend",
            read_bytes=cached * kv_bytes_per_token(shape, self.kv_item_bytes) / shape.num_layers,
            fp32_flops=0.0 if self.has_bf16_dot else flops,
            bf16_flops=flops if self.has_bf16_dot else 0.0,
            num_barriers=BARRIERS["attend"],
            count=shape.num_layers,
        )


def attended(chunk: Chunk, window: int | None) -> float:
    """Pairs of a new token and a position it attends to, itself included."""
    first, last = chunk.start + 1, chunk.start + chunk.num_tokens
    if window is None or last <= window:
        return chunk.num_tokens * (first + last) / 2
    growing = max(0, window - first)  # tokens that see fewer positions than the window
    return growing * (first + first + growing - 1) / 2 + (chunk.num_tokens - growing) * window
