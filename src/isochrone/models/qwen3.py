"""Qwen3 (dense): every query and key head is normalised before RoPE; heads need not fill the hidden size."""

from __future__ import annotations

from collections.abc import Collection

from .config import Choices
from .family import Family, gguf_window, has_bias, hf_windows
from .fields import Fields


def _from_hf(fields: Fields, num_layers: int) -> Choices:
    bias = fields.truth("attention_bias", False)
    return Choices(hf_windows(fields, num_layers, 4096), (True,) * num_layers, bias, bias)


def _from_gguf(fields: Fields, num_layers: int, stored: Collection[str]) -> Choices:
    bias = has_bias(stored, "attn_q"), has_bias(stored, "attn_output")
    return Choices(gguf_window(fields, num_layers), (True,) * num_layers, *bias)


QWEN3 = Family("qwen3", "qwen3", "qwen3", 1e4, 32768, _from_hf, _from_gguf, has_qk_norm=True, head_dim=128)
