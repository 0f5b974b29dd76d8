"""Hugging Face directories: one file or many, with config, template and licence; and the form they are run in."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from isochrone.errors import BadConfig, BadModel
from isochrone.graph.formats import FORMATS
from isochrone.weights import open_checkpoint
from isochrone.weights.dequantise import dequantise
from isochrone.weights.fingerprint import fingerprint
from isochrone.weights.form import choose_formats, converted_rows, pack_tensor
from isochrone.weights.pack import num_tiles, packed_bytes, unpack_rows
from tests.weights.make import Gguf, random_rows, safetensors_bytes, small_safetensors

SHARD_INDEX = "model.safetensors.index.json"


def tensors(seed=0):
    rng = np.random.default_rng(seed)
    wide = rng.standard_normal((48, 64)).astype(np.float32)
    return {
        "model.embed_tokens.weight": wide,
        "model.layers.0.mlp.up_proj.weight": (rng.standard_normal((40, 64)).astype("<f4").view("<u4") >> 16).astype(
            "<u2"
        ),
        "model.layers.0.mlp.down_proj.weight": rng.standard_normal((64, 32)).astype("<f2"),
        "model.norm.weight": wide[0].copy(),
    }


def write_model(folder, config=None, weights=None):
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"} | (config or {})))
    (folder / "model.safetensors").write_bytes(small_safetensors(tensors() if weights is None else weights))
    return folder


def write_shards(folder, places, shards):
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    for name, weights in shards.items():
        (folder / name).write_bytes(small_safetensors(weights))
    return folder


def test_a_directory_is_read_with_all_it_brings(tmp_path):
    write_model(tmp_path)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [1, 2]}')
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
    (tmp_path / "README.md").write_text("---\nlanguage: en\nlicense: apache-2.0\n---\n# Model\n")
    found = open_checkpoint(tmp_path)
    assert (found.kind, found.license, found.chat_template) == ("hf", "apache-2.0", "{{ messages }}")
    assert found.generation == {"eos_token_id": [1, 2]}
    assert found.metadata["model_type"] == "llama"
    assert found.tokenizer.path == tmp_path
    assert_array_equal(found.tensors["model.embed_tokens.weight"].values(), tensors()["model.embed_tokens.weight"])
    assert_array_equal(
        found.tensors["model.layers.0.mlp.down_proj.weight"].values(),
        tensors()["model.layers.0.mlp.down_proj.weight"].astype(np.float32),
    )


def test_the_safetensors_package_writes_what_is_read(tmp_path):
    from safetensors.numpy import save_file

    weights = {"a": np.arange(12, dtype=np.float32).reshape(3, 4), "step": np.array([7], np.int64)}
    write_model(tmp_path)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    found = open_checkpoint(tmp_path)
    assert_array_equal(found.tensors["a"].values(), weights["a"])
    assert found.other_types == {"step": "I64"}


def test_a_template_file_comes_before_the_tokenizers_config(tmp_path):
    write_model(tmp_path)
    (tmp_path / "chat_template.jinja").write_text("file")
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": [{"name": "default", "template": "config"}]}')
    assert open_checkpoint(tmp_path).chat_template == "file"
    (tmp_path / "chat_template.jinja").unlink()
    assert open_checkpoint(tmp_path).chat_template == "config"


def test_shards_are_one_model(tmp_path):
    a, b = {"x": np.ones((2, 32), np.float32)}, {"y": np.zeros(32, np.float32)}
    write_shards(tmp_path, {"x": "1.safetensors", "y": "2.safetensors"}, {"1.safetensors": a, "2.safetensors": b})
    found = open_checkpoint(tmp_path)
    assert set(found.tensors) == {"x", "y"}
    assert len(found.files) == 2


@pytest.mark.parametrize("name", ["../other.safetensors", "/etc/passwd", "", "..", "a/b", "a\0b", "n\n"])
def test_an_index_cannot_name_files_outside_its_directory(tmp_path, name):
    write_shards(tmp_path, {"x": name}, {})
    with pytest.raises(BadModel, match="outside its directory"):
        open_checkpoint(tmp_path)


def test_an_index_that_lies_about_a_shard_is_refused(tmp_path):
    one = {"x": np.ones(4, np.float32)}
    write_shards(tmp_path, {"x": "1.safetensors", "y": "1.safetensors"}, {"1.safetensors": one})
    with pytest.raises(BadModel, match="'y'"):
        open_checkpoint(tmp_path)
    write_shards(tmp_path, {"x": "1.safetensors", "y": "2.safetensors"},
                 {"1.safetensors": one, "2.safetensors": {**one, "y": np.ones(4, np.float32)}})  # fmt: skip
    with pytest.raises(BadModel, match=r"'x' in 1\.safetensors and in 2\.safetensors"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("config", [{"quantization_config": {"quant_method": "gptq"}}, {"compression_config": {}}])
def test_quantised_directories_are_refused_by_name(tmp_path, config):
    with pytest.raises(BadModel, match="quantised"):
        open_checkpoint(write_model(tmp_path, config))


@pytest.mark.parametrize("index", ["[]", "{}", '{"weight_map": []}', '{"weight_map": {"x": 3}}', "{"])
def test_a_broken_index_is_refused(tmp_path, index):
    write_shards(tmp_path, {}, {})
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(BadModel):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("offsets", "data"), [((0, 8), 16), ((4, 20), 20), ((-16, 0), 16), ((16, 0), 16), ((0, 2**60), 16)]
)
def test_safetensors_whose_extents_lie_are_refused(tmp_path, offsets, data):
    write_model(tmp_path)
    header = {"x": {"dtype": "F32", "shape": [4], "data_offsets": list(offsets)}}
    (tmp_path / "model.safetensors").write_bytes(safetensors_bytes(header, bytes(data)))
    with pytest.raises(BadModel):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("wanted", "up", "embedding"),
    [("auto", "bf16", "f32"), ("f32", "f32", "f32"), ("bf16", "bf16", "bf16"), ("int8", "q8_0", "q8_0"),
     ("int4", "q4_1", "q8_0")],
)  # fmt: skip
def test_each_form_has_its_formats_and_vectors_keep_theirs(tmp_path, wanted, up, embedding):
    chosen = choose_formats(open_checkpoint(write_model(tmp_path)), wanted)
    assert chosen["model.layers.0.mlp.up_proj.weight"].name == up
    assert chosen["model.embed_tokens.weight"].name == embedding
    assert chosen["model.norm.weight"].name == "f32"


@pytest.mark.parametrize("name", ["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1"])
def test_packing_a_tensor_in_another_format_equals_rounding_it_first(tmp_path, name):
    format = FORMATS[name]
    rng = np.random.default_rng(1)
    weights = {"w": rng.standard_normal((2050, 32)).astype(np.float32)}
    tensor = open_checkpoint(write_model(tmp_path, weights=weights)).tensors["w"]
    out = np.zeros((num_tiles(2050), packed_bytes(format, 2050, 32) // num_tiles(2050)), np.uint8)
    order = rng.permutation(2050)
    pack_tensor(tensor, format, out, order)
    rounded = dequantise(format, np.concatenate(list(converted_rows(tensor, format))))
    assert_array_equal(unpack_rows(format, out, 2050), rounded[order])
    assert np.abs(rounded - weights["w"]).max() < (0.6 if name.startswith("q4") else 0.03)


def test_numbers_that_are_not_finite_are_not_rounded(tmp_path):
    weights = {"w": np.full((2, 32), np.nan, np.float32)}
    tensor = open_checkpoint(write_model(tmp_path, weights=weights)).tensors["w"]
    with pytest.raises(BadModel, match="not finite"):
        list(converted_rows(tensor, FORMATS["q8_0"]))


def test_rows_that_fill_no_block_and_unknown_forms_are_refused(tmp_path):
    found = open_checkpoint(write_model(tmp_path, weights={"w": np.ones((2, 33), np.float32)}))
    with pytest.raises(BadConfig, match="33"):
        choose_formats(found, "int8")
    with pytest.raises(BadConfig, match="int3"):
        choose_formats(found, "int3")


def test_a_fingerprint_changes_with_any_file_and_only_then(tmp_path):
    write_model(tmp_path)
    before = fingerprint(tmp_path)
    assert fingerprint(tmp_path) == before
    (tmp_path / "tokenizer.json").write_text("{}")
    assert fingerprint(tmp_path) != before


def test_int4_keeps_only_the_edges_of_the_model_at_int8(tmp_path):
    """An attention output is called attn_output in GGUF, and is no output head."""
    file = Gguf()
    for name in ("token_embd.weight", "output.weight", "blk.0.attn_output.weight"):
        file.tensor(name, FORMATS["f16"], random_rows(FORMATS["f16"], 2, 32, 0), (2, 32))
    chosen = choose_formats(open_checkpoint(file.write(tmp_path / "m.gguf")), "int4")
    assert {name: format.name for name, format in chosen.items()} == {
        "token_embd.weight": "q8_0", "output.weight": "q8_0", "blk.0.attn_output.weight": "q4_1",
    }  # fmt: skip


def test_a_broken_model_card_is_no_reason_not_to_run(tmp_path):
    write_model(tmp_path)
    (tmp_path / "README.md").write_bytes(b"---\nlicense: mit\n---\n\xff\xfe")
    assert open_checkpoint(tmp_path).license == "mit"


any_json = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["config.json", "generation_config.json", "tokenizer_config.json", SHARD_INDEX]),
    key=st.sampled_from(["chat_template", "weight_map", "license", "quantization_config", "other"]),
    value=any_json,
    bare=st.booleans(),
)
def test_a_directory_with_any_json_in_it_is_read_or_refused(tmp_path, name, key, value, bare):
    for file in tmp_path.iterdir():
        file.unlink()
    write_model(tmp_path)
    (tmp_path / name).write_text(json.dumps(value if bare else {key: value}))
    try:
        found = open_checkpoint(tmp_path)
    except BadModel as error:
        assert error.fix
    else:
        assert found.chat_template is None or isinstance(found.chat_template, str)
