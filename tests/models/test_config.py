"""What a checkpoint says becomes a config, or a sentence that names the key."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isochrone import models
from isochrone.errors import BadModel
from isochrone.graph import formats
from isochrone.models.rope import frequencies

from .test_names import ARCHITECTURES, HF, config, gguf_metadata, gguf_stored

INFO = models.Stored((97, 64), formats.Q8_0)


def read_gguf(arch: str, tensors: dict | None = None, **extra) -> models.ModelConfig:
    shapes = gguf_stored(arch) if tensors is None else tensors
    stored = {name: models.Stored(shape, formats.F32) for name, shape in shapes.items()}
    return models.read_config("gguf", gguf_metadata(arch, **extra), stored)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_gguf_and_hugging_face_say_the_same(arch):
    assert replace(read_gguf(arch), is_permuted=False) == config(arch)


def test_a_gguf_file_without_output_ties_its_head():
    shapes = gguf_stored("qwen3")
    del shapes["output.weight"]
    assert read_gguf("qwen3", shapes).is_tied and not read_gguf("qwen3").is_tied


def test_gguf_may_repeat_a_number_for_every_layer_but_not_change_it():
    same = {"attention.head_count": [4, 4, 4], "attention.head_count_kv": np.array([2, 2, 2], np.int32)}
    assert read_gguf("llama", **same) == read_gguf("llama")
    with pytest.raises(BadModel, match="same number for every layer"):
        read_gguf("llama", **{"attention.head_count": [4, 4, 2]})


@pytest.mark.parametrize(
    ("extra", "scaling"),
    [
        ({}, "none"),
        ({"rope.scaling.type": "none"}, "none"),
        ({"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}, "linear"),
        ({"rope.scale_linear": 4.0}, "linear"),
        ({"rope.scaling.type": "linear"}, "none"),
        (
            {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 16},
            "yarn",
        ),
        ({"rope.scaling.type": "longrope", "rope.scaling.original_context_length": 16}, "longrope"),
    ],
)
def test_gguf_rope_scalings(extra, scaling):
    assert read_gguf("llama", **extra).rope.scaling == scaling


def test_a_gguf_sliding_window_holds_for_all_layers():
    assert read_gguf("llama", **{"attention.sliding_window": 9}).choices.windows == (9, 9, 9)


LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


def test_the_divisors_of_a_gguf_file_are_llama3_scaling():
    hf = config("llama", rope_scaling=LLAMA3)
    plain, scaled = frequencies(config("llama").rope, 16, 64, 64), frequencies(hf.rope, 16, 64, 64)
    shapes = {**gguf_stored("llama"), "rope_freqs.weight": (8,)}
    read = read_gguf("llama", shapes)
    derived = models.derived_weights(read, 64, {"rope_freqs": plain / scaled})
    np.testing.assert_allclose(derived[models.INV_FREQ], scaled, rtol=1e-6)
    with pytest.raises(BadModel, match="rope_freqs, which the checkpoint lacks"):
        models.derived_weights(read, 64)
    for wrong in (np.ones(7, np.float32), np.zeros(8, np.float32)):
        with pytest.raises(BadModel, match="divisors for 8 pairs"):
            models.derived_weights(read, 64, {"rope_freqs": wrong})


@pytest.mark.parametrize(
    ("scaling", "context_max"),
    [
        ({"type": "linear", "factor": 4.0}, 256),
        ({"type": "dynamic", "factor": 2.0}, 128),
        ({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}, 256),
        ({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}, 64),
        (LLAMA3, 64),
        (None, 64),
    ],
)
def test_a_scaling_says_how_far_the_context_may_be_stretched(scaling, context_max):
    read = config("llama", rope_scaling=scaling)
    assert (read.context, read.context_max) == (64, context_max)


def test_longrope_of_a_gguf_file_picks_by_the_context_that_is_served():
    extra = {"rope.scaling.type": "longrope", "rope.scaling.original_context_length": 16}
    read = read_gguf("llama", **extra)
    factors = {"rope_factors_short": np.full(8, 1, np.float32), "rope_factors_long": np.full(8, 2, np.float32)}
    short, long = (models.derived_weights(read, context, factors)[models.INV_FREQ] for context in (16, 17))
    np.testing.assert_allclose(short, 2 * long)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"model_type": "bert"}, "model_type is 'bert'"),
        ({"model_type": None}, "does not say model_type"),
        ({"hidden_size": "64"}, "hidden_size is '64', not a whole number"),
        ({"hidden_size": True}, "hidden_size is True"),
        ({"num_hidden_layers": 10**9}, "1000000000 layers"),
        ({"num_attention_heads": 0}, "num_attention_heads is 0"),
        ({"num_key_value_heads": 3}, "4 heads cannot share 3 KV heads"),
        ({"head_dim": 15}, "head_dim is 15"),
        ({"vocab_size": 1 << 40}, "vocab_size is"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps is nan"),
        ({"rms_norm_eps": 0}, "rms_eps is 0"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu'"),
        ({"rope_theta": 0.5}, "theta 0.5"),
        ({"rope_scaling": {"type": "mystery"}}, "rope_type is 'mystery'"),
        ({"rope_scaling": [1]}, "rope_scaling is"),
        ({"rope_scaling": {"type": "linear"}}, "does not say factor"),
        ({"rope_scaling": {"type": "linear", "factor": -1.0}}, "factor -1.0"),
        ({"rope_scaling": {**LLAMA3, "low_freq_factor": 4.0}}, "mixes from 4.0 to 4.0"),
        ({"rope_scaling": {**LLAMA3, "original_max_position_embeddings": 1}}, "stretches a context of 1"),
        ({"rope_scaling": {"type": "longrope", "long_factor": [1], "short_factor": "a"}}, "short_factor is 'a'"),
        ({"partial_rotary_factor": 0.5}, "turns only 0.5"),
        ({"rope_parameters": {"full_attention": {"rope_theta": 1e6}}}, "differs between layers"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantised in a way"),
        ({"tie_word_embeddings": 1}, "tie_word_embeddings is 1, not true or false"),
    ],
    ids=str,
)
def test_a_config_that_cannot_be_run_is_named(changes, complaint):
    with pytest.raises(BadModel, match=complaint) as raised:
        models.read_config("hf", {"model_type": "llama", **HF, **changes}, {})
    assert raised.value.fix


@pytest.mark.parametrize(
    ("extra", "complaint"),
    [
        ({"attention.value_length": 8}, "value_length is 8, but heads are 16 wide"),
        ({"rope.dimension_count": 8}, "dimension_count is 8"),
        ({"expert_count": 8}, "mixture of experts"),
        ({"rope.scaling.type": "mystery"}, "scaling.type is 'mystery'"),
        ({"block_count": 0}, "0 layers"),
        ({"context_length": None}, "does not say llama.context_length"),
    ],
    ids=str,
)
def test_metadata_that_cannot_be_run_is_named(extra, complaint):
    with pytest.raises(BadModel, match=complaint):
        read_gguf("llama", **extra)


def test_a_gguf_file_without_a_table_is_named():
    with pytest.raises(BadModel, match="token_embd"):
        read_gguf("llama", {"token_embd.weight": (97,)})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)
KEYS = [
    *HF, "model_type", "rope_scaling", "rope_parameters", "sliding_window", "use_sliding_window", "layer_types",
    "max_window_layers", "no_rope_layers", "no_rope_layer_interval", "attention_bias", "mlp_bias", "hidden_act",
    "partial_rotary_factor", "original_max_position_embeddings",
]  # fmt: skip
ROPE_KEYS = [
    "rope_type", "type", "factor", "low_freq_factor", "high_freq_factor", "beta_fast", "beta_slow", "attention_factor",
    "mscale", "mscale_all_dim", "short_factor", "long_factor", "truncate", "original_max_position_embeddings",
]  # fmt: skip
SCALINGS = st.sampled_from(["default", "linear", "dynamic", "llama3", "yarn", "longrope"])


@settings(max_examples=300, deadline=None)
@given(
    family=st.sampled_from(["llama", "mistral", "smollm3", "qwen2", "qwen3"]),
    changes=st.dictionaries(st.sampled_from(KEYS), JSON, max_size=3),
    rope=st.dictionaries(st.sampled_from(ROPE_KEYS), JSON, max_size=3),
    scaling=SCALINGS,
    context=st.integers(1, 1 << 20),
)
def test_a_hostile_config_is_refused_or_runs_but_never_crashes(family, changes, rope, scaling, context):
    base = {**LLAMA3, "rope_type": scaling, "short_factor": [1.0] * 8, "long_factor": [2.0] * 8, **rope}
    raw = {"model_type": family, **HF, "rope_scaling": base, **changes}
    try:
        read = models.read_config("hf", raw, {})
        derived = models.derived_weights(read, context)
    except BadModel:
        return
    assert np.isfinite(derived[models.INV_FREQ]).all()
    if read.num_layers <= 8:
        models.build(read, models.expected_tensors(read, formats.Q8_0))


@settings(max_examples=200, deadline=None)
@given(
    arch=st.sampled_from([*ARCHITECTURES, "gemma"]),
    changes=st.dictionaries(st.sampled_from(list(gguf_metadata(""))), JSON, max_size=3),
)
def test_hostile_metadata_is_refused_or_read_but_never_crashes(arch, changes):
    metadata = gguf_metadata(arch) | {
        k.replace(".", f"{arch}.", 1) if k[0] == "." else k: v for k, v in changes.items()
    }
    try:
        models.read_config("gguf", metadata, {"token_embd.weight": INFO})
    except BadModel:
        return


def test_tensors_must_be_what_the_config_says():
    read = config("qwen2")
    tensors = models.expected_tensors(read, formats.Q4_0)
    models.build(read, tensors)
    without = {k: v for k, v in tensors.items() if k != "layers.1.mlp.up_proj"}
    with pytest.raises(BadModel, match=r"no tensor layers\.1\.mlp\.up_proj"):
        models.build(read, without)
    with pytest.raises(BadModel, match=r"norm is \[63\], but the config makes it \[64\]"):
        models.build(read, {**tensors, "norm": models.Stored((63,), formats.F32)})
    with pytest.raises(BadModel, match=r"'layers\.0\.self_attn\.q_norm', which no qwen2 model reads"):
        models.build(read, {**tensors, "layers.0.self_attn.q_norm": models.Stored((16,), formats.F32)})
    extra = {"layers.0.self_attn.rotary_emb.inv_freq": models.Stored((8,), formats.F32)}
    models.build(read, {**tensors, **extra})
