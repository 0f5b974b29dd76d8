"""Names and row orders of GGUF files lead to the same model as Hugging Face's."""

from __future__ import annotations

import numpy as np
import pytest

from isochrone import models
from isochrone.graph import formats
from isochrone.models.tensors import expected_shapes

gguf = pytest.importorskip("gguf")

ARCHITECTURES = {"llama": "LLAMA", "smollm3": "SMOLLM3", "qwen2": "QWEN2", "qwen3": "QWEN3"}
HF = {
    "vocab_size": 97,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1e4,
    "head_dim": 16,
    "tie_word_embeddings": False,
}


def config(model_type: str, **overrides) -> models.ModelConfig:
    return models.read_config("hf", {"model_type": model_type, **HF, **overrides}, {})


def gguf_names(arch: str, canonical: list[str]) -> dict[str, str]:
    """Canonical -> the name that the gguf package gives Hugging Face's tensor."""
    table = gguf.get_tensor_name_map(gguf.MODEL_ARCH[ARCHITECTURES[arch]], 3)
    names = {}
    for name in canonical:
        hf = f"model.{name}" if not name.startswith("lm_head") else name
        hf = hf if hf.endswith(".bias") else f"{hf}.weight"
        names[name] = table.get_name(hf, try_suffixes=(".weight", ".bias"))
    return names


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_tensor_of_a_gguf_file_finds_its_canonical_name(arch):
    canonical = list(expected_shapes(config(arch)))
    stored = gguf_names(arch, canonical)
    assert None not in stored.values()
    assert models.canonical_names("gguf", stored.values()) == stored


def test_hugging_face_names_lose_their_prefix_and_suffix():
    names = ["model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.bias", "lm_head.weight", "model.norm.weight"]
    assert list(models.canonical_names("hf", names)) == [
        "embed_tokens",
        "layers.0.self_attn.q_proj.bias",
        "lm_head",
        "norm",
    ]


def test_names_that_no_model_reads_keep_themselves():
    names = ["rope_freqs.weight", "blk.0.ffn_gate_inp.weight", "blk.x", ""]
    assert list(models.canonical_names("gguf", names)) == ["rope_freqs", "blk.0.ffn_gate_inp", "blk.x", ""]


def interleaved(rows: np.ndarray, heads: int) -> np.ndarray:
    """Rows as llama.cpp's converter stores q and k: the two halves of a head shuffled into pairs."""
    return rows.reshape(heads, 2, len(rows) // heads // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


@pytest.mark.parametrize("arch", ["llama", "smollm3"])
def test_row_orders_undo_the_interleaving_of_q_and_k(arch):
    stored = {n: models.Stored(s, formats.F32) for n, s in gguf_stored(arch).items()}
    read = models.read_config("gguf", gguf_metadata(arch), stored)
    orders = models.row_orders(read)
    assert set(orders) == {f"layers.{i}.self_attn.{p}_proj" for i in range(3) for p in "qk"}
    for name, heads in (("layers.1.self_attn.q_proj", 4), ("layers.2.self_attn.k_proj", 2)):
        meant = np.arange(heads * 16)
        assert np.array_equal(interleaved(meant, heads)[orders[name]], meant)


def test_biases_move_with_their_rows_and_other_checkpoints_not_at_all():
    shapes = gguf_stored("llama", attention_bias=True)
    stored = {n: models.Stored(s, formats.F32) for n, s in shapes.items()}
    read = models.read_config("gguf", gguf_metadata("llama"), stored)
    orders = models.row_orders(read)
    assert np.array_equal(orders["layers.0.self_attn.q_proj.bias"], orders["layers.0.self_attn.q_proj"])
    assert models.row_orders(config("llama")) == models.row_orders(config("qwen2")) == {}


def gguf_stored(arch: str, **overrides) -> dict[str, tuple[int, ...]]:
    """Shapes of a GGUF file's tensors under its own names."""
    shapes = expected_shapes(config(arch, **overrides))
    stored = gguf_names(arch, list(shapes))
    return {stored[name]: shape for name, shape in shapes.items()}


def gguf_metadata(arch: str, **extra) -> dict:
    fields = {
        "block_count": 3,
        "context_length": 64,
        "embedding_length": 64,
        "feed_forward_length": 96,
        "attention.head_count": 4,
        "attention.head_count_kv": 2,
        "attention.key_length": 16,
        "attention.value_length": 16,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.freq_base": 1e4,
        "rope.dimension_count": 16,
        **extra,
    }
    return {"general.architecture": arch, **{f"{arch}.{key}": value for key, value in fields.items()}}
