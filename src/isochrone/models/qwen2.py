"""Qwen2 and Qwen2.5: biases on q, k and v; a sliding window on the upper layers where it is switched on."""

from __future__ import annotations

from collections.abc import Collection

from .config import Choices
from .family import Family, gguf_window, hf_windows
from .fields import Fields


def _from_hf(fields: Fields, num_layers: int) -> Choices:
    return Choices(hf_windows(fields, num_layers, 4096), (True,) * num_layers, qkv_bias=True)


def _from_gguf(fields: Fields, num_layers: int, stored: Collection[str]) -> Choices:
    return Choices(gguf_window(fields, num_layers), (True,) * num_layers, qkv_bias=True)


QWEN2 = Family("qwen2", "qwen2", "qwen2", 1e4, 32768, _from_hf, _from_gguf)
