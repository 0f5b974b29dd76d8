"""Names of tensors: the canonical ones, Hugging Face's and GGUF's.

Canonical is Hugging Face's name without "model." in front and ".weight" behind: `embed_tokens`,
`layers.0.self_attn.q_proj`, `layers.0.self_attn.q_proj.bias`, `norm`, `lm_head`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

CheckpointKind = Literal["hf", "gguf"]

_GGUF_TOP = {"token_embd": "embed_tokens", "output_norm": "norm", "output": "lm_head"}
_GGUF_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def canonical_names(kind: CheckpointKind, stored: Iterable[str]) -> dict[str, str]:
    """Canonical name -> the checkpoint's own name; a name that no model reads keeps itself."""
    translate = _from_gguf if kind == "gguf" else _from_hf
    return {translate(name): name for name in stored}


def _from_hf(name: str) -> str:
    return name.removeprefix("model.").removesuffix(".weight")


def _from_gguf(name: str) -> str:
    stem, _, kind = name.rpartition(".")
    suffix = "" if kind == "weight" else f".{kind}"
    if stem in _GGUF_TOP:
        return _GGUF_TOP[stem] + suffix
    block, _, rest = stem.partition(".")
    layer, _, part = rest.partition(".")
    if block == "blk" and part in _GGUF_LAYER:
        return f"layers.{layer}.{_GGUF_LAYER[part]}{suffix}"
    return name.removesuffix(".weight")
