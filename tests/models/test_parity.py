"""Every family agrees with transformers on small random models, as it is built and as it is lowered."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from isochrone import models
from isochrone.graph.check import check
from isochrone.graph.pipeline import lower
from isochrone.runtime.reference import run_reference

from .checkpoints import SIZES, arrays, infos, logits_of, make
from .test_names import gguf_metadata, gguf_names, interleaved

TOLERANCE = 1e-3
"""Largest difference of logits in f32."""

HALF = 8  # rotary pairs of a head of 16
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
LONGROPE = {
    "rope_type": "longrope",
    "short_factor": [1.0 + 0.1 * i for i in range(HALF)],
    "long_factor": [1.5 + 0.5 * i for i in range(HALF)],
    "original_max_position_embeddings": 32,
    "factor": 2.0,
}


def rope(theta: float = 10000.0, **scaling: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_theta": theta, "rope_type": "default", **scaling}}


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", rope()),
    "llama, all heads its own": ("llama", {**rope(), "num_key_value_heads": 4}),
    "llama, biases": ("llama", {**rope(), "attention_bias": True, "mlp_bias": True}),
    "llama, head_dim of its own": ("llama", {**rope(), "head_dim": 24}),
    "llama, linear": ("llama", rope(rope_type="linear", factor=2.0)),
    "llama, dynamic": ("llama", rope(rope_type="dynamic", factor=2.0)),
    "llama, llama3": ("llama", rope(500000.0, **LLAMA3)),
    "llama, yarn": ("llama", rope(**YARN)),
    "llama, yarn, own factor": ("llama", rope(**YARN, attention_factor=0.7, beta_fast=16.0, beta_slow=2.0)),
    "llama, yarn, mscale": ("llama", rope(**YARN, mscale=1.0, mscale_all_dim=0.5, truncate=False)),
    "llama, longrope": ("llama", rope(**LONGROPE)),
    "llama, gelu": ("llama", {**rope(), "hidden_act": "gelu_pytorch_tanh"}),
    "smollm2": ("llama", {**rope(100000.0), "tie_word_embeddings": True}),
    "mistral, window": ("mistral", {**rope(), "sliding_window": 7}),
    "mistral, no window": ("mistral", {**rope(), "sliding_window": None}),
    "smollm3": ("smollm3", {**rope(2e6), "num_hidden_layers": 5, "no_rope_layer_interval": 2}),
    "smollm3, window": (
        "smollm3",
        {**rope(), "no_rope_layers": [1, 0, 1], "use_sliding_window": True, "sliding_window": 5},
    ),
    "qwen2": ("qwen2", rope(1e6)),
    "qwen2.5, tied": ("qwen2", {**rope(1e6), "tie_word_embeddings": True, "rms_norm_eps": 1e-5}),
    "qwen2, window": ("qwen2", {**rope(), "use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1}),
    "qwen2, yarn": ("qwen2", rope(1e6, **YARN)),
    "qwen3": ("qwen3", {**rope(1e6), "head_dim": 24, "tie_word_embeddings": True}),
    "qwen3, biases": ("qwen3", {**rope(), "head_dim": 16, "attention_bias": True}),
}


def ours(config: dict[str, Any], weights: dict[str, np.ndarray], ids: np.ndarray, context: int) -> list[np.ndarray]:
    """Logits of the built and of the lowered graph."""
    read = models.read_config("hf", config, {})
    graph = models.build(read, infos(weights))
    check(graph, "model")
    check(lower(graph), "lowered")
    everything = {**weights, **models.derived_weights(read, context)}
    positions = np.arange(len(ids), dtype=np.int32)
    inputs = {"token_ids": ids, "positions": positions, "logit_rows": positions}
    return [run_reference(g, inputs, everything)[0] for g in (graph, lower(graph))]


@pytest.mark.parametrize("case", CASES)
def test_logits_agree_with_transformers(case):
    model_type, overrides = CASES[case]
    model = make(model_type, **overrides)
    ids = np.random.default_rng(1).integers(0, SIZES["vocab_size"], 28).astype(np.int32)
    expected = logits_of(model, ids)
    assert expected.std() > 0.3  # logits near zero would agree whatever we did
    for logits in ours(json.loads(model.config.to_json_string()), arrays(model), ids, context=28):
        assert np.abs(logits - expected).max() <= TOLERANCE


@pytest.mark.parametrize("scaling", [{"rope_type": "dynamic", "factor": 2.0}, LONGROPE], ids=["dynamic", "longrope"])
def test_scalings_that_depend_on_length_agree_beyond_the_first_context(scaling):
    model = make("llama", **rope(**scaling))
    ids = np.random.default_rng(2).integers(0, SIZES["vocab_size"], 96).astype(np.int32)
    expected = logits_of(model, ids)
    for logits in ours(json.loads(model.config.to_json_string()), arrays(model), ids, context=96):
        assert np.abs(logits - expected).max() <= TOLERANCE


def test_the_older_spelling_of_rope_reads_the_same():
    new = models.read_config("hf", {"model_type": "llama", **SIZES, **rope(5e5, **LLAMA3)}, {})
    old = {k: v for k, v in LLAMA3.items() if k != "rope_type"} | {"type": "llama3"}
    assert models.read_config("hf", {"model_type": "llama", **SIZES, "rope_theta": 5e5, "rope_scaling": old}, {}) == new


GGUF_CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "llama": ("llama", rope(), {}),
    "llama, biases": ("llama", {**rope(), "attention_bias": True}, {}),
    "llama, yarn": (
        "llama",
        rope(**YARN),
        {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 16},
    ),
    "llama, linear": (
        "llama",
        rope(rope_type="linear", factor=2.0),
        {"rope.scaling.type": "linear", "rope.scaling.factor": 2.0},
    ),
    "smollm3": ("smollm3", {**rope(), "num_hidden_layers": 3, "tie_word_embeddings": True}, {}),
    "qwen2": ("qwen2", rope(), {}),
    "qwen3": ("qwen3", {**rope(), "head_dim": 16}, {}),
}


@pytest.mark.parametrize("case", GGUF_CASES)
def test_the_same_weights_under_gguf_names_and_row_order_agree_too(case):
    arch, overrides, extra = GGUF_CASES[case]
    model = make(arch, **{"rms_norm_eps": 1e-5, **overrides})
    ids = np.random.default_rng(3).integers(0, SIZES["vocab_size"], 28).astype(np.int32)
    stored = as_gguf(arch, arrays(model))
    read = models.read_config("gguf", gguf_metadata(arch, **extra), infos(stored))
    names, orders = models.canonical_names("gguf", stored), models.row_orders(read)
    weights = {name: stored[at][orders[name]] if name in orders else stored[at] for name, at in names.items()}
    graph = lower(models.build(read, infos(weights)))
    positions = np.arange(28, dtype=np.int32)
    inputs = {"token_ids": ids, "positions": positions, "logit_rows": positions}
    (logits,) = run_reference(graph, inputs, {**weights, **models.derived_weights(read, 28)})
    assert np.abs(logits - logits_of(model, ids)).max() <= TOLERANCE


def as_gguf(arch: str, weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Weights as a converter stores them: its names, and q and k in pairs for the Llama kind."""
    names = gguf_names(arch, list(weights))
    stored = {}
    for name, value in weights.items():
        heads = {"q_proj": 4, "k_proj": 2}.get(name.removesuffix(".bias").rpartition(".")[2])
        is_paired = heads and arch in ("llama", "smollm3")
        stored[names[name]] = interleaved(value, heads) if is_paired else value
    return stored
