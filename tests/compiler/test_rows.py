"""Row kernels: normalise, quantise and look up, the same bits on every instruction set."""

from __future__ import annotations

import numpy as np
import pytest

from isochrone.compiler import rows
from isochrone.compiler.isa import Target, available_targets
from isochrone.compiler.matmul import panel_block_bytes
from isochrone.compiler.rows import Embed, Rows
from isochrone.graph.formats import BLOCK, FORMATS, Plain, WeightFormat
from isochrone.weights.blocks import row_bytes
from isochrone.weights.dequantise import dequantise
from isochrone.weights.pack import num_tiles, pack_plain, pack_rows, packed_bytes

from .contraction import Problem, panels, random_problem
from .harness import ALL_TARGETS, Bench, assert_same_bits, same_bits_interpreted, table

EVERY_TARGET = pytest.mark.parametrize("target", ALL_TARGETS)
EPS = 1e-5


def random_rows(m: int, k: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return (random.standard_normal((m, k)) * random.uniform(0.01, 30, (m, 1))).astype(np.float32)


def rows_bench(spec: Rows, x: np.ndarray, num_rows: int, index: np.ndarray | None = None) -> Bench:
    k = x.shape[1]
    stride = panel_block_bytes(spec.panel) * (k // BLOCK) if spec.quantise else 4 * k
    num_out = -(-num_rows // spec.panel) if spec.quantise else num_rows
    arrays = {"x": x, "out": np.full((num_out, stride), 0xAA, np.uint8)}
    arrays["weight"] = np.random.default_rng(1).uniform(0.5, 2, k).astype(np.float32)
    if index is not None:
        arrays["index"] = index
    args = table({
        rows.X: "x", rows.X_ROW_BYTES: 4 * k, rows.NUM_BLOCKS: k // BLOCK, rows.OUT: "out", rows.OUT_STRIDE: stride,
        rows.WEIGHT: "weight", rows.EPS: EPS, rows.INVERSE_K: 1 / k,
    })  # fmt: skip
    return Bench(arrays, args, [num_rows, "index"] if index is not None else [num_rows])


def quantised(x: np.ndarray) -> Problem:
    """Codes and scales as rows.py says, every step in f32."""
    blocks = x.reshape(len(x), -1, BLOCK)
    largest = np.abs(blocks).max(-1)
    with np.errstate(divide="ignore"):
        inverse = np.where(largest > 0, np.float32(127) / largest, np.float32(0))
    codes = np.rint(blocks * inverse[..., None]).astype(np.int8).reshape(x.shape)
    return Problem(FORMATS["q8_0"], np.zeros(0, np.uint8), codes, largest * np.float32(1 / 127))  # type: ignore[arg-type]


def written(out: np.ndarray, panel: int, m: int) -> np.ndarray:
    """Panels without their padding, which nobody reads."""
    blocks = out.reshape(len(out), -1, panel_block_bytes(panel)).copy()
    blocks[..., (BLOCK + 28) * panel :] = 0
    return blocks


@EVERY_TARGET
@pytest.mark.parametrize("m", [1, 2, 5, 16])
def test_quantised_rows_fill_the_panels_that_the_contraction_reads(m: int, target: Target) -> None:
    panel = 1 if m == 1 else target.rows
    x = random_rows(m, 128)
    x[0, 32:64] = 0
    spec = Rows(False, True, panel, None, 0)
    got = same_bits_interpreted(rows_bench(spec, x, m), spec, target, m)
    expected = panels(quantised(x), panel)
    assert_same_bits(written(got, panel, m), written(expected, panel, m))


@EVERY_TARGET
def test_a_code_is_never_further_than_half_a_step_from_its_number(target: Target) -> None:
    problem = quantised(random_rows(20, 256, seed=3))
    steps = np.repeat(problem.scales, BLOCK, axis=1)
    assert (np.abs(problem.codes * steps - random_rows(20, 256, seed=3)) <= 0.50001 * steps).all()
    assert np.abs(problem.codes.astype(int)).max() == 127


@EVERY_TARGET
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_makes_the_scale_of_its_block_not_finite(bad: float, target: Target) -> None:
    x = random_rows(2, 64)
    x[1, 40] = bad
    spec = Rows(False, True, 2, None, 0)
    out = rows_bench(spec, x, 2).run(spec, target, 2)
    scales = out.reshape(2, panel_block_bytes(2))[:, 2 * BLOCK :].copy().view(np.float32)[:, :2]
    assert np.isfinite(scales).tolist() == [[True, True], [True, False]]


@EVERY_TARGET
def test_a_normalised_row_agrees_with_float64(target: Target) -> None:
    x, spec = random_rows(7, 576), Rows(True, False, 1, None, 0)
    bench = rows_bench(spec, x, 7)
    got = same_bits_interpreted(bench, spec, target, 7).view(np.float32).reshape(x.shape)
    wide = x.astype(np.float64)
    expected = wide / np.sqrt((wide * wide).mean(1, keepdims=True) + EPS) * bench.arrays["weight"]
    np.testing.assert_allclose(got, expected, rtol=5e-7)


@EVERY_TARGET
def test_normalising_and_quantising_at_once_equals_one_after_the_other(target: Target) -> None:
    x, m = random_rows(5, 192, seed=4), 5
    norm, both = Rows(True, False, 1, None, 0), Rows(True, True, target.rows, None, 0)
    normal = rows_bench(norm, x, m).run(norm, target, m).view(np.float32).reshape(x.shape)
    got = rows_bench(both, x, m).run(both, target, m)
    assert_same_bits(written(got, target.rows, m), written(panels(quantised(normal), target.rows), target.rows, m))


@EVERY_TARGET
def test_gathering_takes_the_rows_that_the_index_names(target: Target) -> None:
    x, index = random_rows(9, 64), np.array([8, 0, 3, 3], np.int32)
    spec = Rows(True, True, target.rows, 1, 0)
    got = rows_bench(spec, x, 4, index).run(spec, target, 4)
    plain = Rows(True, True, target.rows, None, 0)
    assert_same_bits(got, rows_bench(plain, x[index], 4).run(plain, target, 4))


@pytest.mark.parametrize("norm", [False, True])
def test_every_instruction_set_gives_the_same_bits(norm: bool) -> None:
    x, spec = random_rows(8, 576, seed=5), Rows(norm, True, 4, None, 0)
    results = [written(rows_bench(spec, x, 8).run(spec, target, 8), 4, 8) for target in available_targets()]
    for other in results[1:]:
        assert_same_bits(results[0], other)


def embed_bench(format: WeightFormat, raw: np.ndarray, k: int, tokens: np.ndarray, factor: float) -> Bench:
    tiles = num_tiles(len(raw))
    packed = np.zeros((tiles, packed_bytes(format, len(raw), k) // tiles), np.uint8)
    if isinstance(format, Plain):
        pack_plain(format, raw, packed)
    else:
        pack_rows(format, raw, packed)
    arrays = {"table": packed, "tokens": tokens, "out": np.zeros((len(tokens), k), np.float32)}
    args = table({
        rows.TABLE: "table", rows.TABLE_BLOCKS: k // BLOCK, rows.TABLE_TILE_BYTES: packed.shape[1],
        rows.EMBED_OUT: "out", rows.EMBED_ROW_BYTES: 4 * k, rows.EMBED_FACTOR: factor,
    })  # fmt: skip
    return Bench(arrays, args, [len(tokens), "tokens"])


def stored_rows(format: WeightFormat, n: int, k: int) -> np.ndarray:
    if not isinstance(format, Plain):
        return random_problem(format, 1, n, k).raw
    values = np.random.default_rng(6).standard_normal((n, k)).astype(np.float32)
    if format.name == "bf16":
        return np.ascontiguousarray((values.view(np.uint32) >> 16).astype(np.uint16)).view(np.uint8)
    raw = values.astype(np.float16 if format.name == "f16" else np.float32).view(np.uint8)
    assert raw.shape[1] == row_bytes(format, k)
    return raw


@EVERY_TARGET
@pytest.mark.parametrize("format", FORMATS.values(), ids=lambda f: f.name)
def test_an_embedding_is_the_row_that_the_file_stores(format: WeightFormat, target: Target) -> None:
    k, tokens = 256, np.array([0, 39, 17, 17, 16, 5], np.int32)
    raw, spec = stored_rows(format, 40, k), Embed(format.name, 1, 0)
    got = same_bits_interpreted(embed_bench(format, raw, k, tokens, 1.0), spec, target, len(tokens))
    expected = dequantise(format, raw)[tokens]
    # A minimum is added by a fused multiply-add here, and in two roundings there.
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6 * np.abs(expected).max())
    scaled = embed_bench(format, raw, k, tokens, 12.5).run(spec, target, len(tokens))
    assert_same_bits(scaled, got * np.float32(12.5))
