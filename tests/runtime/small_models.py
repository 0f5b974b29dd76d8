"""Small random models on disk, of every family and weight format, and the reference of each."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from isochrone import models
from isochrone.graph.formats import F16, F32, Plain, WeightFormat
from isochrone.graph.pipeline import lower
from isochrone.models.tensors import expected_shapes
from isochrone.runtime.reference import ReferenceRuntime
from isochrone.weights import open_checkpoint
from isochrone.weights.blocks import BLOCK_DTYPES
from isochrone.weights.dequantise import dequantise
from isochrone.weights.form import choose_formats, converted_rows, narrow
from tests.weights.make import Gguf, random_rows, small_safetensors

STD = 0.15
"""Of weights: large enough that attention is far from uniform and that logits differ."""
SIZES: dict[str, Any] = {
    "vocab_size": 97, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 1024, "rms_norm_eps": 1e-5, "rope_theta": 1e4,
    "tie_word_embeddings": False,
}  # fmt: skip
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama, biases": ("llama", {"attention_bias": True, "mlp_bias": True, "hidden_act": "gelu_pytorch_tanh"}),
    "llama, heads of their own": ("llama", {"num_key_value_heads": 4, "tie_word_embeddings": True}),
    "mistral, window": ("mistral", {"sliding_window": 7}),
    "smollm3, layers without rope": ("smollm3", {"num_hidden_layers": 3, "no_rope_layers": [1, 0, 1]}),
    "qwen2, biases": ("qwen2", {}),
    "qwen3, QK-norm": ("qwen3", {"head_dim": 32}),
}
GGUF_SIZES = {
    "context_length": 256, "embedding_length": 256, "feed_forward_length": 256, "attention.head_count": 4,
    "attention.head_count_kv": 2, "rope.dimension_count": 64,
}  # fmt: skip
GGUF_VOCAB = 80
LAYER = {"attn_q": 256, "attn_k": 128, "attn_v": 128, "attn_output": 256, "ffn_gate": 256, "ffn_up": 256,
         "ffn_down": 256}  # fmt: skip


def directory(folder: Path, model_type: str, *, seed: int = 0, dtype: Plain = F32, **overrides: Any) -> Path:
    """A Hugging Face directory of random weights."""
    rng, config = np.random.default_rng(seed), {**SIZES, "model_type": model_type, **overrides}
    tensors = {}
    for name, shape in expected_shapes(models.read_config("hf", config, {})).items():
        mean, std = (0.0, STD) if len(shape) == 2 else (0.0, 0.3) if name.endswith("bias") else (1.0, 0.2)
        values = rng.normal(mean, std, shape).astype(np.float32)
        stored = values if dtype == F32 else narrow(dtype, values).view(np.float16 if dtype == F16 else np.uint16)
        name = name if name.startswith("lm_head") else f"model.{name}"
        tensors[name if name.endswith("bias") else f"{name}.weight"] = stored.reshape(shape)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(small_safetensors(tensors))
    return folder


def mixed_gguf(path: Path, formats: Sequence[WeightFormat], *, seed: int = 0) -> Path:
    """A GGUF file of the Llama kind: layer i is of format i but for k and v, and in one more layer gate and up differ.

    So every format meets every kind of matrix, and neighbours of other formats too.
    """
    num_layers, rng = len(formats) + 1, np.random.default_rng(seed)
    file = Gguf().text("general.architecture", "llama").u32("llama.block_count", num_layers)
    for key, value in GGUF_SIZES.items():
        file.u32(f"llama.{key}", value)
    for key, number in (("attention.layer_norm_rms_epsilon", 1e-5), ("rope.freq_base", 1e4)):
        file.values.append((f"llama.{key}".encode(), 6, struct.pack("<f", number)))

    def add(name: str, rows: int, turn: int) -> None:
        format = formats[turn % len(formats)]
        raw = moderate_rows(format, rows, 256, seed=1000 * seed + len(file.tensors))
        file.tensor(f"{name}.weight", format, raw, (rows, 256))

    add("token_embd", GGUF_VOCAB, 0)
    add("output", GGUF_VOCAB, 1)
    for layer in range(num_layers):
        shift = {"attn_k": 1, "attn_v": 2, "ffn_up": int(layer == num_layers - 1)}
        for name, rows in LAYER.items():
            add(f"blk.{layer}.{name}", rows, layer + shift.get(name, 0))
    for name in ("output_norm", *(f"blk.{i}.{n}_norm" for i in range(num_layers) for n in ("attn", "ffn"))):
        norm = rng.normal(1, 0.2, (1, 256)).astype("<f4").view(np.uint8)
        file.tensor(f"{name}.weight", F32, norm, (256,))
    return file.write(path)


def moderate_rows(format: WeightFormat, rows: int, k: int, seed: int) -> np.ndarray:
    """Random stored rows whose numbers are of the size that a model's weights have."""
    raw, rng = random_rows(format, rows, k, seed), np.random.default_rng(seed)
    if isinstance(format, Plain):
        return narrow(format, rng.normal(0, 0.08, (rows, k)).astype(np.float32))
    blocks = raw.view(BLOCK_DTYPES[format.name])
    scales = [name for name in ("d", "m", "dmin") if name in (blocks.dtype.names or ())]
    for name in scales:
        blocks[name] = rng.uniform(0.5, 1, blocks.shape) * rng.choice([-1, 1], blocks.shape)
    shrink = 0.08 / dequantise(format, raw).std()
    for name in scales:
        blocks[name] = blocks[name] * shrink
    return raw


def reference(path: Path, *, weights: str = "auto", context: int = 1024, num_pages: int = 64) -> ReferenceRuntime:
    """The NumPy runtime of a model, on the weights as they are rounded, with a bf16 cache in pages of 32."""
    checkpoint = open_checkpoint(path)
    config = models.read_config(checkpoint.kind, checkpoint.metadata, checkpoint.tensors)
    names, orders = models.canonical_names(checkpoint.kind, checkpoint.tensors), models.row_orders(config)
    formats = choose_formats(checkpoint, weights)
    stored = {c: models.Stored(tuple(checkpoint.tensors[n].shape), formats[n]) for c, n in names.items()}
    values = {}
    for canonical, name in names.items():
        tensor, format = checkpoint.tensors[name], formats[name]
        rows = np.concatenate(list(converted_rows(tensor, format, orders.get(canonical))))
        values[canonical] = dequantise(format, rows).reshape(tensor.shape)
    graph = lower(models.build(config, stored))
    derived = models.derived_weights(config, config.context)
    return ReferenceRuntime(graph, {**values, **derived}, context=context, num_pages=num_pages, kv_type="bf16")

