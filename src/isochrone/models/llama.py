"""Llama 2 and 3.x, SmolLM2, Mistral with its sliding window, SmolLM3 with its layers without RoPE."""

from __future__ import annotations

from collections.abc import Collection

from .config import Choices
from .family import Family, gguf_window, has_bias
from .fields import Fields

_NO_ROPE_EVERY = 4
"""SmolLM3 leaves RoPE out of every fourth layer."""


def _llama_hf(fields: Fields, num_layers: int) -> Choices:
    attention, mlp = fields.truth("attention_bias", False), fields.truth("mlp_bias", False)
    return Choices((None,) * num_layers, (True,) * num_layers, attention, attention, mlp)


def _mistral_hf(fields: Fields, num_layers: int) -> Choices:
    # Published configs write null for "no window"; the key is missing only where the old default was meant.
    window = fields.integer("sliding_window") if fields.has("sliding_window") else None
    return Choices((window,) * num_layers, (True,) * num_layers)


def _smollm3_hf(fields: Fields, num_layers: int) -> Choices:
    if fields.has("no_rope_layers"):
        given = fields.numbers("no_rope_layers")[:num_layers]
        turned = tuple([flag != 0 for flag in given])
    else:
        every = max(1, fields.integer("no_rope_layer_interval", _NO_ROPE_EVERY))
        turned = tuple([(layer + 1) % every != 0 for layer in range(num_layers)])
    window = None
    if fields.truth("use_sliding_window", False) and fields.has("sliding_window"):
        window = fields.integer("sliding_window")
    windows = tuple([None if has_rope else window for has_rope in turned])
    if fields.has("layer_types"):
        types = fields.texts("layer_types", num_layers)
        windows = tuple([window if kind == "sliding_attention" else None for kind in types])
    attention, mlp = fields.truth("attention_bias", False), fields.truth("mlp_bias", False)
    return Choices(windows, turned, attention, attention, mlp)


def _llama_gguf(fields: Fields, num_layers: int, stored: Collection[str]) -> Choices:
    return Choices(gguf_window(fields, num_layers), (True,) * num_layers, *_biases(stored))


def _smollm3_gguf(fields: Fields, num_layers: int, stored: Collection[str]) -> Choices:
    turned = tuple([(layer + 1) % _NO_ROPE_EVERY != 0 for layer in range(num_layers)])
    return Choices(gguf_window(fields, num_layers), turned, *_biases(stored))


def _biases(stored: Collection[str]) -> tuple[bool, bool, bool]:
    return has_bias(stored, "attn_q"), has_bias(stored, "attn_output"), has_bias(stored, "ffn_down")


LLAMA = Family("llama", "llama", "llama", 1e4, 2048, _llama_hf, _llama_gguf, is_permuted=True)
MISTRAL = Family("mistral", "mistral", None, 1e4, 4096 * 32, _mistral_hf, _llama_gguf)
SMOLLM3 = Family(
    "smollm3", "smollm3", "smollm3", 2e6, 32768, _smollm3_hf, _smollm3_gguf, is_permuted=True, is_tied=True
)
