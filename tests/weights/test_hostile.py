"""Any bytes at all: a reader answers with a model or with a typed error, soon, and within little memory."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isochrone.errors import BadConfig, BadModel
from isochrone.weights import open_checkpoint
from isochrone.weights.form import choose_formats
from isochrone.weights.gguf_cursor import StringArray
from isochrone.weights.safetensors import read_safetensors
from tests.weights.make import Gguf, safetensors_bytes, small_gguf

PEAK_BYTES = 16 << 20
TRUE = small_gguf().bytes()
HEADER = len(TRUE) - len(small_gguf().data)
any_size = st.one_of(st.integers(0, 40), st.sampled_from([2**31, 2**32 - 1, 2**48, 2**63, 2**64 - 1]))
hostile = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def read_gguf_bytes(folder: Path, content: bytes) -> None:
    """Read and use all of a file.  Anything but a model or BadModel is a failure."""
    path = folder / "any.gguf"
    path.unlink(missing_ok=True)  # written anew, never in place: an earlier map may still be alive
    path.write_bytes(content)
    tracemalloc.start()
    try:
        found = open_checkpoint(path)
        for value in found.metadata.values():
            len(value.strings()) if isinstance(value, StringArray) else repr(value)
        for tensor in found.tensors.values():
            assert tensor.values().shape == tensor.shape
        choose_formats(found, "auto")
    except BadModel as error:
        assert error.message
        assert error.fix
    finally:
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak_bytes < PEAK_BYTES


@hostile
@given(end=st.integers(0, len(TRUE) - 1))
def test_a_file_cut_anywhere_is_refused(tmp_path, end):
    (tmp_path / "cut.gguf").unlink(missing_ok=True)
    (tmp_path / "cut.gguf").write_bytes(TRUE[:end])
    with pytest.raises(BadModel):
        open_checkpoint(tmp_path / "cut.gguf")


@hostile
@given(st.lists(st.tuples(st.integers(0, HEADER - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_a_file_with_bytes_changed_is_read_or_refused(tmp_path, changes):
    content = bytearray(TRUE)
    for at, byte in changes:
        content[at] = byte
    read_gguf_bytes(tmp_path, bytes(content))


@hostile
@given(at=st.integers(0, HEADER - 8), size=any_size)
def test_a_file_with_any_number_in_any_place_is_read_or_refused(tmp_path, at, size):
    content = bytearray(TRUE)
    content[at : at + 8] = struct.pack("<Q", size)
    read_gguf_bytes(tmp_path, bytes(content))


tensors = st.tuples(
    st.binary(max_size=12),
    st.lists(any_size, max_size=5).map(tuple),
    st.integers(0, 40),
    st.one_of(any_size, st.just(0)),
)
arrays = st.tuples(st.integers(0, 14), any_size, st.binary(max_size=60))
payloads = st.one_of(st.binary(max_size=40), arrays.map(lambda array: struct.pack("<IQ", *array[:2]) + array[2]))


@hostile
@given(
    values=st.lists(st.tuples(st.binary(max_size=12), st.integers(0, 14), payloads), max_size=5),
    tensors=st.lists(tensors, max_size=4),
    counts=st.one_of(st.none(), any_size),
    data=st.binary(max_size=300),
)
def test_a_file_of_any_values_and_tensors_is_read_or_refused(tmp_path, values, tensors, counts, data):
    read_gguf_bytes(tmp_path, Gguf(values=values, tensors=tensors, num_tensors=counts, data=data).bytes())


@hostile
@given(st.binary(max_size=200))
def test_any_bytes_behind_a_true_beginning_are_read_or_refused(tmp_path, rest):
    read_gguf_bytes(tmp_path, TRUE[:24] + rest)


def read_safetensors_bytes(folder: Path, content: bytes) -> None:
    path = folder / "any.safetensors"
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    tracemalloc.start()
    try:
        for tensor in read_safetensors(path).tensors.values():
            assert tensor.values().shape == tensor.shape
    except BadModel as error:
        assert error.message
        assert error.fix
    finally:
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak_bytes < PEAK_BYTES


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.floats(), st.text(max_size=8), any_size, st.integers(-5, 5)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=10,
)
entries = st.fixed_dictionaries(
    {
        "dtype": st.one_of(st.sampled_from(["F32", "BF16", "I64", "F4", "BOOL"]), json_values),
        "shape": st.one_of(st.lists(any_size, max_size=4), json_values),
        "data_offsets": st.one_of(st.lists(any_size, min_size=2, max_size=2), json_values),
    }
)


@hostile
@given(
    header=st.one_of(st.dictionaries(st.text(max_size=8), st.one_of(entries, json_values), max_size=4), json_values),
    data=st.binary(max_size=64),
    length=st.one_of(st.none(), any_size),
)
def test_a_safetensors_file_of_any_header_is_read_or_refused(tmp_path, header, data, length):
    read_safetensors_bytes(tmp_path, safetensors_bytes(header, data, length))


@hostile
@given(header=st.binary(max_size=80), data=st.binary(max_size=16))
def test_a_safetensors_file_of_any_bytes_is_read_or_refused(tmp_path, header, data):
    read_safetensors_bytes(tmp_path, safetensors_bytes(header, data))


ATTACKS = {
    "deep list": b"[" * 200_000,
    "deep object": b'{"a":' * 100_000,
    "long number": b"1" * 100_000,
    "no text": b"\xff\xfe",
    "infinity": b'{"a":1e999}',
    "nan": b'{"a":NaN}',
    "string": b'"x"',
    "two objects": b"{}{}",
    "nothing": b"",
    "a key twice": b'{"a":1,"a":2}',
}


@pytest.mark.parametrize("header", ATTACKS.values(), ids=ATTACKS)
def test_json_that_attacks_its_parser_is_refused(tmp_path, header):
    (tmp_path / "m.safetensors").write_bytes(safetensors_bytes(header, b""))
    with pytest.raises(BadModel):
        read_safetensors(tmp_path / "m.safetensors")


def test_rounding_a_model_again_is_refused(tmp_path):
    found = open_checkpoint(small_gguf().write(tmp_path / "m.gguf"))
    assert choose_formats(found, "auto")["q4_k.weight"].name == "q4_k"
    for wanted in ("f32", "bf16", "int8", "int4"):
        with pytest.raises(BadConfig, match="quantised already"):
            choose_formats(found, wanted)
