"""What a family of models states: which checkpoints it reads, and how their layers choose."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from .config import Choices, FamilyName
from .fields import Fields


@dataclass(frozen=True, slots=True)
class Family:
    """One architecture family.

    model_type    `model_type` of config.json; arch: `general.architecture` of GGUF, None where GGUF has no name
    theta, context, rms_eps   what a config.json leaves out
    has_qk_norm   every query and key head is normalised
    is_permuted   its GGUF files keep the rows of q and k in pairs for interleaved RoPE
    is_tied       whether config.json means a tied head when it does not say
    head_dim      what config.json means when it does not say; None: hidden_size / heads
    from_hf       fields of config.json, layers -> choices
    from_gguf     fields below the architecture's prefix, layers, names of the stored tensors -> choices
    """

    name: FamilyName
    model_type: str
    arch: str | None
    theta: float
    context: int
    from_hf: Callable[[Fields, int], Choices]
    from_gguf: Callable[[Fields, int, Collection[str]], Choices]
    rms_eps: float = 1e-6
    has_qk_norm: bool = False
    is_permuted: bool = False
    is_tied: bool = False
    head_dim: int | None = None


def has_bias(stored: Collection[str], name: str) -> bool:
    """Whether a GGUF file has this bias for its layers."""
    return f"blk.0.{name}.bias" in stored


def gguf_window(fields: Fields, num_layers: int) -> tuple[int | None, ...]:
    """The sliding window of every layer, where the file states one."""
    window = fields.integer("attention.sliding_window", 0)
    return (window if window > 0 else None,) * num_layers


def hf_windows(fields: Fields, num_layers: int, default_window: int | None) -> tuple[int | None, ...]:
    """Windows of a family that switches them on by `use_sliding_window` and places them by layer."""
    if not fields.truth("use_sliding_window", False):
        return (None,) * num_layers
    window = fields.integer("sliding_window", default_window)
    if fields.has("layer_types"):
        types = fields.texts("layer_types", num_layers)
        return tuple([window if kind == "sliding_attention" else None for kind in types])
    first = fields.integer("max_window_layers", 28)
    return tuple([window if layer >= first else None for layer in range(num_layers)])
