"""GGUF metadata as a ModelConfig."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import BadModel
from ..graph.build import TensorInfo
from .config import ModelConfig, RopeConfig, check_num_layers
from .families import by_architecture
from .fields import FIX, Fields


def read_gguf(metadata: Mapping[str, Any], stored: Mapping[str, TensorInfo]) -> ModelConfig:
    """Raises BadModel for a file that is of no known family, incomplete, or at odds with itself.

    stored  the file's tensors under its own names: their presence says what the metadata leaves out
    """
    everything = Fields(metadata, "the GGUF metadata")
    family = by_architecture(everything.text("general.architecture"))
    fields = Fields(metadata, "the GGUF metadata", f"{family.arch}.")
    num_layers = check_num_layers(fields.integer("block_count"))
    num_heads, hidden_size = fields.per_layer("attention.head_count", num_layers), fields.integer("embedding_length")
    if num_heads < 1:
        raise BadModel(f"The GGUF metadata says {family.arch}.attention.head_count is {num_heads}.", fix=FIX)
    head_dim = fields.integer("attention.key_length", hidden_size // num_heads)
    context = fields.integer("context_length")
    _expect_plain_heads(fields, head_dim)
    return ModelConfig(
        family=family.name,
        vocab_size=_vocab_size(stored),
        hidden_size=hidden_size,
        intermediate_size=fields.per_layer("feed_forward_length", num_layers),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=fields.per_layer("attention.head_count_kv", num_layers, num_heads),
        head_dim=head_dim,
        rms_eps=fields.number("attention.layer_norm_rms_epsilon"),
        context=context,
        rope=_rope(fields, stored, context),
        choices=family.from_gguf(fields, num_layers, stored),
        is_tied="output.weight" not in stored,
        has_qk_norm=family.has_qk_norm,
        is_permuted=family.is_permuted,
    )


def _expect_plain_heads(fields: Fields, head_dim: int) -> None:
    for key in ("attention.value_length", "rope.dimension_count"):
        found = fields.integer(key, head_dim)
        if found != head_dim:
            raise BadModel(f"The GGUF metadata says {key} is {found}, but heads are {head_dim} wide.", fix=FIX)
    if fields.integer("expert_count", 0) > 0:
        raise BadModel(
            "The GGUF file is a mixture of experts, which Isochrone does not run yet.",
            fix="Use a dense model of the same family.",
        )


def _vocab_size(stored: Mapping[str, TensorInfo]) -> int:
    table = stored.get("token_embd.weight")
    if table is None or len(table.shape) != 2:
        raise BadModel("The GGUF file has no embedding table token_embd.weight of two dimensions.", fix=FIX)
    return int(table.shape[0])


def _rope(fields: Fields, stored: Mapping[str, TensorInfo], context: int) -> RopeConfig:
    theta = fields.number("rope.freq_base", 10000.0)
    kind = fields.text("rope.scaling.type", "linear" if fields.has("rope.scale_linear") else "none")
    factor = fields.number("rope.scaling.factor", fields.number("rope.scale_linear", 1.0))
    original = fields.integer("rope.scaling.original_context_length", context)
    if "rope_freqs.weight" in stored:
        return RopeConfig(theta, "factors")
    if "rope_factors_long.weight" in stored or kind == "longrope":
        # The converter has worked the paper's attention factor out already.
        attention = fields.number("rope.scaling.attn_factor", 1.0)
        return RopeConfig(theta, "longrope", factor, original, attention_factor=attention)
    match kind:
        case "none":
            return RopeConfig(theta)
        case "linear":
            return RopeConfig(theta, "linear", factor or 1.0) if factor != 1.0 else RopeConfig(theta)
        case "yarn":
            betas = (
                fields.number("rope.scaling.yarn_beta_fast", 32.0),
                fields.number("rope.scaling.yarn_beta_slow", 1.0),
            )
            return RopeConfig(theta, "yarn", factor, original, beta_fast=betas[0], beta_slow=betas[1])
    raise BadModel(f"The GGUF metadata says rope.scaling.type is {kind[:60]!r}.", fix=FIX)
