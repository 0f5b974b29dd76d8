"""Every stored format: read as the gguf package reads it, packed without loss, rounded as ggml rounds."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from isochrone.graph.formats import FORMATS, Plain, Quantised, WeightFormat
from isochrone.weights.blocks import row_bytes, row_items, split
from isochrone.weights.dequantise import dequantise
from isochrone.weights.form import narrow
from isochrone.weights.pack import num_tiles, pack_plain, pack_rows, packed_bytes, unpack_rows
from isochrone.weights.quantise import quantise_rows
from tests.weights.make import ALL_FORMATS, QUANTISED, random_rows

each_format = pytest.mark.parametrize("format", ALL_FORMATS, ids=lambda format: format.name)
each_rounded = pytest.mark.parametrize("name", ["q8_0", "q4_0", "q4_1"])


def packed(format: WeightFormat, raw: np.ndarray) -> np.ndarray:
    rows, k = len(raw), row_items(format, raw.shape[1])
    out = np.full((num_tiles(rows), packed_bytes(format, rows, k) // num_tiles(rows)), 0xA5, np.uint8)
    if isinstance(format, Plain):
        pack_plain(format, raw, out)
    else:
        pack_rows(format, raw, out)
    return out


def by_gguf(format: WeightFormat, raw: np.ndarray) -> np.ndarray:
    kind = gguf.GGMLQuantizationType[format.name.upper()]
    stored = raw.view(f"<f{format.item_bytes}") if format.name in ("f32", "f16") else raw
    return gguf.quants.dequantize(stored, kind).reshape(len(raw), -1)


@each_format
@pytest.mark.parametrize("seed", range(3))
def test_dequantised_rows_are_those_of_the_gguf_package_bit_for_bit(format, seed):
    raw = random_rows(format, 5, 768, seed)
    assert_array_equal(dequantise(format, raw), by_gguf(format, raw))


@each_format
@settings(max_examples=25, deadline=None)
@given(rows=st.integers(1, 70), blocks=st.integers(1, 4), seed=st.integers(0, 2**31))
def test_packing_loses_nothing_and_pads_with_zeros(format, rows, blocks, seed):
    k = blocks * (256 if isinstance(format, Plain) or format.scale != "f16" else 32)
    raw = random_rows(format, rows, k, seed)
    tiles = packed(format, raw)
    assert_array_equal(unpack_rows(format, tiles, rows), dequantise(format, raw))
    assert not unpack_rows(format, tiles, num_tiles(rows) * 16)[rows:].any()


@pytest.mark.parametrize("format", QUANTISED, ids=lambda format: format.name)
def test_a_packed_code_lies_where_the_kernels_look_for_it(format):
    """Code by code, from the words of the layout and not from the code that writes it."""
    k, rows = 256, 16
    raw = random_rows(format, rows, k, seed=7)
    codes, tile = split(format, raw).codes, packed(format, raw)[0]
    superblock = format.super_bytes
    planes = {2: [(2, 0)], 3: [(2, 0), (1, 2)], 4: [(4, 0)], 5: [(4, 0), (1, 4)], 6: [(4, 0), (2, 4)], 8: [(8, 0)]}
    for column, k_at in [(0, 0), (15, 255), (3, 37), (9, 100), (12, 161), (7, 254)]:
        block, group, i = k_at // 32, k_at % 32 // 4, k_at % 4
        start, code = superblock + block * format.block_bytes, 0
        for width, low_bit in planes[format.bits]:
            vector, slot = group % width, group // width
            byte = int(tile[start + 64 * vector + 4 * column + i])
            code |= ((byte >> (width * slot)) & ((1 << width) - 1)) << low_bit
            start += 64 * width
        assert code == codes[column, k_at]


@each_format
def test_a_packed_weight_is_hardly_larger_than_the_file(format):
    """Q2_K alone is: its 4-bit scales become bytes.  Files of that name hold mostly Q3_K and Q4_K beside it."""
    share = packed_bytes(format, 4096, 4096) / (4096 * row_bytes(format, 4096))
    assert share <= (1.20 if format.name == "q2_k" else 1.04)


@each_rounded
@given(seed=st.integers(0, 2**31), exponent=st.integers(-20, 12))
@settings(max_examples=40, deadline=None)
def test_rounded_rows_are_those_of_the_gguf_package(name, seed, exponent):
    values = np.random.default_rng(seed).standard_normal((3, 96)).astype(np.float32) * np.float32(2.0**exponent)
    values[1] = 0
    assert_array_equal(
        quantise_rows(values, quantised(name)), gguf.quants.quantize(values, gguf.GGMLQuantizationType[name.upper()])
    )


@each_rounded
def test_rounding_what_was_rounded_changes_nothing_beyond_half_a_step(name):
    values = np.random.default_rng(3).standard_normal((8, 64)).astype(np.float32)
    found = dequantise(quantised(name), quantise_rows(values, quantised(name)))
    span = np.ptp(values.reshape(8, 2, 32), axis=-1).max()
    steps = {"q8_0": 127, "q4_0": 8, "q4_1": 15}[name]
    assert np.abs(found - values).max() <= span / steps


def test_bf16_rounds_to_nearest_and_ties_to_even():
    values = np.array([[1.0, 1.00390625, 1.01171875, -1.0039065, 3.0e38, 1e-40]], np.float32)
    found = narrow(FORMATS["bf16"], values).view("<u2")[0]
    assert found.tolist() == [0x3F80, 0x3F80, 0x3F82, 0xBF81, 0x7F62, 0x0001]


def quantised(name: str) -> Quantised:
    format = FORMATS[name]
    assert isinstance(format, Quantised)
    return format
