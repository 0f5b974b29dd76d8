"""GGUF files: true ones are read whole and lazily, lying ones are refused with a sentence that says why."""

from __future__ import annotations

import struct
import tracemalloc

import gguf
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from isochrone.errors import BadModel, NotFound
from isochrone.graph.formats import FORMATS
from isochrone.weights import open_checkpoint
from isochrone.weights.gguf_cursor import NUM_STRINGS_MAX, StringArray
from tests.weights.make import Gguf, random_rows, small_gguf, text


def test_a_file_of_the_gguf_package_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(path, "qwen3")
    writer.add_uint32("qwen3.block_count", 7)
    writer.add_float32("qwen3.rope.freq_base", 1e6)
    writer.add_bool("tokenizer.ggml.add_bos_token", True)
    writer.add_array("tokenizer.ggml.tokens", ["a", "ü", "日本語"])
    writer.add_array("tokenizer.ggml.scores", [0.5, -1.0])
    values = np.random.default_rng(0).standard_normal((6, 64)).astype(np.float32)
    writer.add_tensor("output_norm.weight", values[0])
    kind = gguf.GGMLQuantizationType.Q4_1
    writer.add_tensor("output.weight", gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = open_checkpoint(path)
    assert found.kind == "gguf"
    assert found.metadata["general.architecture"] == "qwen3"
    assert found.metadata["qwen3.block_count"] == 7
    assert found.metadata["qwen3.rope.freq_base"] == 1e6
    assert found.metadata["tokenizer.ggml.add_bos_token"] is True
    assert list(found.metadata["tokenizer.ggml.tokens"]) == ["a", "ü", "日本語"]
    assert found.metadata["tokenizer.ggml.scores"].tolist() == [0.5, -1.0]
    assert found.tensors["output.weight"].shape == (6, 64)
    assert found.tensors["output.weight"].format == FORMATS["q4_1"]
    assert_array_equal(found.tensors["output_norm.weight"].values(), values[0])
    assert_array_equal(
        found.tensors["output.weight"].values(), gguf.quants.dequantize(gguf.quants.quantize(values, kind), kind)
    )


@pytest.mark.parametrize("version", [2, 3])
def test_both_versions_and_all_formats_are_read(tmp_path, version):
    file = small_gguf()
    file.version = version
    found = open_checkpoint(file.write(tmp_path / "m.gguf"))
    assert {t.format.name for t in found.tensors.values()} == set(FORMATS)
    for name, format in FORMATS.items():
        assert_array_equal(found.tensors[f"{name}.weight"].data, random_rows(format, 3, 256, 0))
    assert found.license == "apache-2.0"
    assert found.chat_template == "{{ messages }}"
    assert found.metadata["numbers"].tolist() == [1.5, -2.0, 0.25]
    assert found.metadata["truth"] is True


def test_opening_a_file_decodes_no_token(tmp_path):
    """A vocabulary of 20,000 strings costs opening less memory than one word a string, and is right when asked for."""
    tokens = [f"token {index}" for index in range(20_000)]
    path = Gguf().texts("tokenizer.ggml.tokens", tokens).write(tmp_path / "m.gguf")
    tracemalloc.start()
    found = open_checkpoint(path)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 8 * len(tokens)
    array = found.metadata["tokenizer.ggml.tokens"]
    assert isinstance(array, StringArray)
    assert len(array) == 20_000
    assert array[19_999] == "token 19999"
    assert array == tokens


def test_weights_are_views_that_nobody_can_write(tmp_path):
    found = open_checkpoint(small_gguf().write(tmp_path / "m.gguf")).tensors["q8_0.weight"]
    assert not found.data.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        found.data[0, 0] = 1


def test_a_directory_stands_for_its_one_gguf_file(tmp_path):
    small_gguf().write(tmp_path / "one.gguf")
    assert open_checkpoint(tmp_path).path == tmp_path / "one.gguf"
    small_gguf().write(tmp_path / "two.gguf")
    with pytest.raises(BadModel, match=r"one\.gguf, two\.gguf"):
        open_checkpoint(tmp_path)


def lie(change):
    file = small_gguf()
    change(file)
    return file.bytes()


def _double_tensor(file):
    file.tensors.append(file.tensors[0])


def _overlap(file):
    name, shape, kind, _ = file.tensors[1]
    file.tensors[1] = (name, shape, kind, 0)


def _tensor(index, **changes):
    def change(file):
        fields = dict(zip(("name", "shape", "kind", "offset"), file.tensors[index], strict=True)) | changes
        file.tensors[index] = tuple(fields.values())

    return change


def _value(key, kind, payload):
    return lambda file: file.values.append((key, kind, payload))


LIES = {
    "letters": (lambda f: setattr(f, "magic", 0x12345678), "letters GGUF"),
    "version": (lambda f: setattr(f, "version", 1), "version 1"),
    "byte order": (lambda f: setattr(f, "version", 3 << 24), "big-endian"),
    "many tensors": (lambda f: setattr(f, "num_tensors", 2**63), "tensors"),
    "many values": (lambda f: setattr(f, "num_values", 2**40), "metadata values"),
    "more tensors than there are": (lambda f: setattr(f, "num_tensors", 60_000), "ends|bytes|tensor"),
    "the same tensor twice": (_double_tensor, "two tensors of one name"),
    "overlapping tensors": (_overlap, "inside"),
    "offset past the end": (_tensor(0, offset=2**40), "ends at"),
    "overflowing offset": (_tensor(0, offset=2**64 - 32), "ends at"),
    "crooked offset": (_tensor(0, offset=1), "multiple of 32"),
    "overflowing shape": (_tensor(0, shape=(2**63, 2**62)), "ends at|inside"),
    "empty shape": (_tensor(0, shape=(0, 256)), "shape"),
    "row that fills no block": (_tensor(4, shape=(3, 255)), "shape"),
    "no dimensions": (_tensor(0, shape=()), "0 dimensions"),
    "many dimensions": (_tensor(0, shape=(1,) * 5), "5 dimensions"),
    "unknown type": (_tensor(0, kind=77), "type 77"),
    "type that we do not run": (_tensor(0, kind=16), "IQ2_XXS"),
    "name that is not UTF-8": (_tensor(0, name=b"\xff\xfe"), "UTF-8"),
    "long name": (_tensor(0, name=b"x" * 1000), "1000 bytes"),
    "the same key twice": (_value(b"truth", 7, b"\1"), "twice"),
    "key that is not UTF-8": (_value(b"\xff", 7, b"\1"), "UTF-8"),
    "unknown value type": (_value(b"k", 13, b"\0"), "type 13"),
    "truth of 2": (_value(b"k", 7, b"\2"), "0 or 1"),
    "truths of 2": (_value(b"k", 9, struct.pack("<IQ", 7, 1) + b"\2"), "0 and 1"),
    "array of arrays": (_value(b"k", 9, struct.pack("<IQ", 9, 1)), "array of arrays"),
    "endless numbers": (_value(b"k", 9, struct.pack("<IQ", 12, 2**61)), "more bytes"),
    "endless strings": (_value(b"k", 9, struct.pack("<IQ", 8, 2**61)), f"at most {NUM_STRINGS_MAX}"),
    "string past the end": (_value(b"k", 9, struct.pack("<IQQ", 8, 1, 2**64 - 1)), "string ends"),
    "text past the end": (_value(b"k", 8, struct.pack("<Q", 2**24 - 1)), "more than|more bytes"),
    "long text": (_value(b"k", 8, struct.pack("<Q", 2**63)), "at most"),
    "crooked alignment": (lambda f: f.u32("general.alignment", 24), "alignment"),
    "alignment of zero": (lambda f: f.u32("general.alignment", 0), "alignment"),
    "alignment as text": (lambda f: f.text("general.alignment", "32"), "alignment"),
    "one of several parts": (lambda f: f.u32("split.count", 3), "3 parts"),
}  # fmt: skip


@pytest.mark.parametrize("name", LIES)
def test_a_lying_file_is_refused_with_its_lie(tmp_path, name):
    change, words = LIES[name]
    (tmp_path / "m.gguf").write_bytes(lie(change))
    with pytest.raises(BadModel, match=words) as caught:
        open_checkpoint(tmp_path / "m.gguf")
    assert str(tmp_path) in caught.value.message
    assert caught.value.fix


@pytest.mark.parametrize("key", ["tokenizer.chat_template", "general.license"])
def test_a_number_where_text_belongs_is_refused(tmp_path, key):
    path = Gguf().u32(key, 5).write(tmp_path / "m.gguf")
    with pytest.raises(BadModel, match=key):
        open_checkpoint(path)


def test_a_token_that_is_not_utf8_is_refused_when_tokens_are_asked_for(tmp_path):
    payload = struct.pack("<IQ", 8, 2) + text("fine") + struct.pack("<Q", 2) + b"\xc3\x28"
    file = Gguf()
    file.values.append((b"tokenizer.ggml.tokens", 9, payload))
    array = open_checkpoint(file.write(tmp_path / "m.gguf")).metadata["tokenizer.ggml.tokens"]
    with pytest.raises(BadModel, match="UTF-8"):
        array.strings()


def test_what_is_no_file_is_refused_at_once(tmp_path):
    import os

    (tmp_path / "empty.gguf").touch()
    os.mkfifo(tmp_path / "pipe.gguf")
    (tmp_path / "loop.gguf").symlink_to("loop.gguf")
    (tmp_path / "folder").mkdir()
    for name, kind in [("empty.gguf", BadModel), ("pipe.gguf", BadModel), ("folder", BadModel)]:
        with pytest.raises(kind):
            open_checkpoint(tmp_path / name)
    for name in ("missing.gguf", "loop.gguf"):
        with pytest.raises(NotFound):
            open_checkpoint(tmp_path / name)
