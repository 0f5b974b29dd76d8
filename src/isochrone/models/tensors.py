"""Which tensors a model must find in its checkpoint, and how their rows are ordered there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import BadModel
from ..graph import formats
from ..graph.build import TensorInfo
from ..graph.formats import WeightFormat
from .blocks import INV_FREQ
from .config import ModelConfig
from .rope import FACTOR_TENSORS, frequencies

F32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Stored:
    """Shape (rows first) and format of a tensor."""

    shape: tuple[int, ...]
    format: WeightFormat


def expected_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Canonical name -> shape of everything that the checkpoint must hold."""
    hidden = config.hidden_size
    shapes: dict[str, tuple[int, ...]] = {"embed_tokens": (config.vocab_size, hidden), "norm": (hidden,)}
    if not config.is_tied:
        shapes["lm_head"] = (config.vocab_size, hidden)
    for layer in range(config.num_layers):
        at = f"layers.{layer}."
        for name, shape in _layer_shapes(config).items():
            shapes[at + name] = shape
    return shapes


def _layer_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    hidden, inner, choices = config.hidden_size, config.intermediate_size, config.choices
    q, kv = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    projections = {
        "self_attn.q_proj": (q, hidden, choices.qkv_bias),
        "self_attn.k_proj": (kv, hidden, choices.qkv_bias),
        "self_attn.v_proj": (kv, hidden, choices.qkv_bias),
        "self_attn.o_proj": (hidden, q, choices.output_bias),
        "mlp.gate_proj": (inner, hidden, choices.mlp_bias),
        "mlp.up_proj": (inner, hidden, choices.mlp_bias),
        "mlp.down_proj": (hidden, inner, choices.mlp_bias),
    }
    shapes: dict[str, tuple[int, ...]] = {"input_layernorm": (hidden,), "post_attention_layernorm": (hidden,)}
    if config.has_qk_norm:
        shapes |= {"self_attn.q_norm": (config.head_dim,), "self_attn.k_norm": (config.head_dim,)}
    for name, (rows, columns, has_bias) in projections.items():
        shapes[name] = (rows, columns)
        if has_bias:
            shapes[f"{name}.bias"] = (rows,)
    return shapes


def expected_tensors(config: ModelConfig, matrices: WeightFormat) -> dict[str, Stored]:
    """The tensors of a checkpoint that does not exist yet: vectors f32, matrices of one format."""
    shapes = expected_shapes(config)
    return {n: Stored(s, matrices if len(s) == 2 else formats.F32) for n, s in shapes.items()}


def check_tensors(config: ModelConfig, tensors: Mapping[str, TensorInfo]) -> None:
    """Raise BadModel unless the checkpoint holds exactly what the model reads, in the right shapes."""
    shapes = expected_shapes(config)
    for name, shape in shapes.items():
        if name not in tensors:
            raise BadModel(f"The checkpoint has no tensor {name}, which its config asks for.", fix=FIX)
        if tuple(tensors[name].shape) != shape:
            found = list(tensors[name].shape)
            raise BadModel(f"Tensor {name} is {found}, but the config makes it {list(shape)}.", fix=FIX)
    for name in tensors:
        if name not in shapes and not _may_be_unread(name):
            raise BadModel(f"The checkpoint holds {name[:80]!r}, which no {config.family} model reads.", fix=FIX)


def _may_be_unread(name: str) -> bool:
    # Old checkpoints store the frequencies themselves; a tied model may store its head again.
    return name in FACTOR_TENSORS or name == "lm_head" or name.endswith("rotary_emb.inv_freq")


def derived_weights(config: ModelConfig, context: int, factors: Mapping[str, F32] | None = None) -> dict[str, F32]:
    """Weights that the graph reads and no checkpoint stores.

    context  positions that will be served
    factors  those of FACTOR_TENSORS that the checkpoint has, f32
    """
    return {INV_FREQ: frequencies(config.rope, config.head_dim, config.context, context, factors)}


def row_orders(config: ModelConfig) -> dict[str, NDArray[np.intp]]:
    """Canonical name -> stored row of each row that the graph means, where the two differ.

    GGUF files of the Llama kind keep the pairs (d, d + head_dim / 2) of q and k next to each other:

        stored  h0: 0, 32, 1, 33, ..          meant  h0: 0, 1, .., 31, 32, ..

    Whole rows move, so quantised weights move without being touched.
    """
    if not config.is_permuted:
        return {}
    orders = {}
    for name, heads in (("q_proj", config.num_heads), ("k_proj", config.num_kv_heads)):
        stored = np.arange(heads * config.head_dim).reshape(heads, config.head_dim // 2, 2)
        order = stored.swapaxes(1, 2).reshape(-1)
        for layer in range(config.num_layers):
            orders[f"layers.{layer}.self_attn.{name}"] = order
            if config.choices.qkv_bias:
                orders[f"layers.{layer}.self_attn.{name}.bias"] = order
    return orders


FIX = "Fetch the checkpoint again; if it stays so, its config belongs to another model."
