"""A Hugging Face config.json as a ModelConfig."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import BadModel
from ..graph.activations import Activation
from .config import SCALINGS, ModelConfig, RopeConfig, check_num_layers
from .families import by_model_type
from .family import Family
from .fields import FIX, Fields

_ACTIVATIONS: dict[str, Activation] = {"silu": "silu", "swish": "silu", "gelu_pytorch_tanh": "gelu_tanh"}


def read_hf(raw: Mapping[str, Any]) -> ModelConfig:
    """Raises BadModel for a config that is of no known family, incomplete, or at odds with itself."""
    fields = Fields(raw, "config.json")
    family = by_model_type(fields.text("model_type"))
    _expect_plain_weights(fields)
    num_layers = check_num_layers(fields.integer("num_hidden_layers"))
    num_heads, hidden_size = fields.integer("num_attention_heads"), fields.integer("hidden_size")
    if num_heads < 1:
        raise BadModel(f"config.json says num_attention_heads is {num_heads}.", fix=FIX)
    head_dim = fields.integer("head_dim", family.head_dim or hidden_size // num_heads)
    context = fields.integer("max_position_embeddings", family.context)
    choices = family.from_hf(fields, num_layers)
    return ModelConfig(
        family=family.name,
        vocab_size=fields.integer("vocab_size"),
        hidden_size=hidden_size,
        intermediate_size=fields.integer("intermediate_size"),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=fields.integer("num_key_value_heads", num_heads),
        head_dim=head_dim,
        rms_eps=fields.number("rms_norm_eps", family.rms_eps),
        context=context,
        rope=_rope(fields, family, context),
        choices=choices,
        is_tied=fields.truth("tie_word_embeddings", family.is_tied),
        has_qk_norm=family.has_qk_norm,
        act=_activation(fields),
    )


def _expect_plain_weights(fields: Fields) -> None:
    if fields.has("quantization_config"):
        raise BadModel(
            "The checkpoint's weights are quantised in a way that only GGUF files may be (quantization_config).",
            fix="Use the model's unquantised checkpoint with --weights int8 or int4, or a GGUF file of it.",
        )


def _activation(fields: Fields) -> Activation:
    name = fields.text("hidden_act", "silu")
    if name not in _ACTIVATIONS:
        raise BadModel(f"config.json says hidden_act is {name[:60]!r}.", fix=f"Known are {', '.join(_ACTIVATIONS)}.")
    return _ACTIVATIONS[name]


def _rope(fields: Fields, family: Family, context: int) -> RopeConfig:
    """Both spellings: `rope_theta` beside `rope_scaling` (before transformers 5), and `rope_parameters`."""
    scaled = fields.under("rope_parameters" if fields.has("rope_parameters") else "rope_scaling")
    if scaled.has_nested():
        raise BadModel(f"{scaled.source} differs between layers, which no family here does.", fix=FIX)
    theta = scaled.number("rope_theta", fields.number("rope_theta", family.theta))
    kind = scaled.text("rope_type", scaled.text("type", "default"))
    share = scaled.number("partial_rotary_factor", fields.number("partial_rotary_factor", 1.0))
    if share != 1.0:
        raise BadModel(f"{scaled.source} turns only {share} of each head, which no family here does.", fix=FIX)
    if kind == "default":
        return RopeConfig(theta)
    if kind not in SCALINGS:
        raise BadModel(f"{scaled.source} says rope_type is {kind[:60]!r}.", fix=f"Known are {', '.join(SCALINGS)}.")
    return _scaled_rope(kind, theta, fields, scaled, context)


def _scaled_rope(kind: str, theta: float, fields: Fields, scaled: Fields, context: int) -> RopeConfig:
    original = scaled.integer("original_max_position_embeddings", context)
    original = fields.integer("original_max_position_embeddings", original)  # Phi-like configs put it outside
    stretched = context / original if kind in ("yarn", "longrope") and original > 0 else None
    is_llama3, is_longrope = kind == "llama3", kind == "longrope"

    def maybe(key: str) -> float | None:
        return scaled.number(key) if scaled.has(key) else None

    return RopeConfig(
        theta=theta,
        scaling=SCALINGS[kind],
        factor=scaled.number("factor", stretched),
        original_context=original,
        low_freq=scaled.number("low_freq_factor") if is_llama3 else 1.0,
        high_freq=scaled.number("high_freq_factor") if is_llama3 else 4.0,
        beta_fast=scaled.number("beta_fast", 32.0) or 32.0,
        beta_slow=scaled.number("beta_slow", 1.0) or 1.0,
        attention_factor=maybe("attention_factor"),
        mscale=maybe("mscale") or None,  # 0 means none
        mscale_all=maybe("mscale_all_dim") or None,
        short=scaled.numbers("short_factor") if is_longrope else (),
        long=scaled.numbers("long_factor") if is_longrope else (),
        truncate=scaled.truth("truncate", True),
    )
