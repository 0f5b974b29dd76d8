"""The pre-norm decoder that all families in scope share; a family says what differs."""

from __future__ import annotations

from collections.abc import Mapping

from ..graph.build import Builder, TensorInfo
from ..graph.ir import Graph
from ..graph.ops import Attend, Rope
from .config import ModelConfig
from .rope import attention_factor

INV_FREQ = "rope.inv_freq"
"""Name of the weight that `derived_weights` computes: the angles per position."""


def build_decoder(config: ModelConfig, tensors: Mapping[str, TensorInfo]) -> Graph:
    """Embedding, layers, final norm and head; logits f32 [rows, vocab] are the output."""
    b = Builder(tensors)
    positions = b.input("positions")
    x = b.embed("embed_tokens", b.input("token_ids"))
    factor = attention_factor(config.rope, config.context)
    turns = {heads: Rope(heads, config.head_dim, config.head_dim, factor) for heads in _head_counts(config)}
    for layer in range(config.num_layers):
        x = _attention(b, config, layer, x, positions, turns)
        x = _mlp(b, config, layer, x)
    x = b.gather_rows(x, b.input("logit_rows"))
    x = b.rms_norm(x, "norm", config.rms_eps)
    return b.graph(b.linear(x, "embed_tokens" if config.is_tied else "lm_head"))


def _head_counts(config: ModelConfig) -> tuple[int, int]:
    return config.num_heads, config.num_kv_heads


def _attention(b: Builder, config: ModelConfig, layer: int, x: int, positions: int, turns: Mapping[int, Rope]) -> int:
    at = f"layers.{layer}.self_attn"
    h = b.rms_norm(x, f"layers.{layer}.input_layernorm", config.rms_eps)
    q, k, v = b.linear(h, f"{at}.q_proj"), b.linear(h, f"{at}.k_proj"), b.linear(h, f"{at}.v_proj")
    if config.has_qk_norm:
        q = b.rms_norm(q, f"{at}.q_norm", config.rms_eps, config.num_heads)
        k = b.rms_norm(k, f"{at}.k_norm", config.rms_eps, config.num_kv_heads)
    if config.choices.rope_layers[layer]:
        q = b.rope(q, positions, turns[config.num_heads], INV_FREQ, f"{at}.q_rope")
        k = b.rope(k, positions, turns[config.num_kv_heads], INV_FREQ, f"{at}.k_rope")
    op = Attend(
        layer,
        config.num_heads,
        config.num_kv_heads,
        config.head_dim,
        config.head_dim**-0.5,
        config.choices.windows[layer],
    )
    attended = b.attend(q, k, v, op, f"{at}.attend")
    return b.add(x, b.linear(attended, f"{at}.o_proj"), f"{at}.add")


def _mlp(b: Builder, config: ModelConfig, layer: int, x: int) -> int:
    at = f"layers.{layer}.mlp"
    h = b.rms_norm(x, f"layers.{layer}.post_attention_layernorm", config.rms_eps)
    gated = b.gated(b.linear(h, f"{at}.gate_proj"), b.linear(h, f"{at}.up_proj"), config.act, f"{at}.gated")
    return b.add(x, b.linear(gated, f"{at}.down_proj"), f"{at}.add")
