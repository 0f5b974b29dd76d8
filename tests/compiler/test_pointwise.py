"""Element-wise kernels and the contraction of plain weights."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from isochrone.compiler import matmul, matmul_plain, pointwise
from isochrone.compiler.codegen import count_spills
from isochrone.compiler.isa import Target, available_targets
from isochrone.compiler.matmul_plain import MatmulPlain
from isochrone.compiler.pointwise import Pointwise
from isochrone.graph.formats import BLOCK, COLUMNS, FORMATS, Plain
from isochrone.weights.dequantise import widen
from isochrone.weights.pack import num_tiles, pack_plain

from .harness import ALL_TARGETS, Bench, assembly, assert_same_bits, same_bits_interpreted, table

EVERY_TARGET = pytest.mark.parametrize("target", ALL_TARGETS)
FACTOR = 0.3125


def silu(x: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return x / (1 + np.exp(-x))


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


MEANING: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "copy": lambda a, b: a,
    "add": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "scale": lambda a, b: a * FACTOR,
    "silu": lambda a, b: silu(a),
    "gelu_tanh": lambda a, b: gelu_tanh(a),
    "gated_silu": lambda a, b: silu(a) * b,
    "gated_gelu_tanh": lambda a, b: gelu_tanh(a) * b,
}


def operands() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    a = (random.standard_normal((5, 96)) * 8).astype(np.float32)
    a[0, :8] = [0, -0.0, 200, -200, 1e-20, -1e-20, 90, -90]
    return a, random.standard_normal((5, 96)).astype(np.float32)


def pointwise_bench(a: np.ndarray, b: np.ndarray) -> Bench:
    row = 4 * a.shape[1]
    words = {pointwise.A: "a", pointwise.B: "b", pointwise.OUT: "out", pointwise.NUM_BLOCKS: a.shape[1] // BLOCK,
             pointwise.FACTOR: FACTOR}  # fmt: skip
    words |= dict.fromkeys((pointwise.A_ROW_BYTES, pointwise.B_ROW_BYTES, pointwise.OUT_ROW_BYTES), row)
    return Bench({"a": a, "b": b, "out": np.zeros_like(a)}, table(words))


@EVERY_TARGET
@pytest.mark.parametrize("op", MEANING)
def test_an_element_wise_kernel_agrees_with_float64(op: str, target: Target) -> None:
    a, b = operands()
    spec = Pointwise(op)  # type: ignore[arg-type]
    got = same_bits_interpreted(pointwise_bench(a, b), spec, target, len(a))
    expected = MEANING[op](a.astype(np.float64), b.astype(np.float64))
    np.testing.assert_allclose(got, expected, rtol=3e-6, atol=1e-30 if "gelu" not in op else 1e-6)


@pytest.mark.parametrize("op", MEANING)
def test_every_instruction_set_gives_the_same_bits(op: str) -> None:
    spec = Pointwise(op)  # type: ignore[arg-type]
    results = [pointwise_bench(*operands()).run(spec, target, 5) for target in available_targets()]
    for other in results[1:]:
        assert_same_bits(results[0], other)


# --- plain weights ----------------------------------------------------------------------------------------------------

PLAIN = [f for f in FORMATS.values() if isinstance(f, Plain)]


def plain_bench(format: Plain, spec: MatmulPlain, m: int, n: int, k: int) -> tuple[Bench, np.ndarray, int]:
    """Arrays and tables, the result in float64 before the epilogue, and the number of items."""
    random = np.random.default_rng(1)
    weights = random.standard_normal((n, k)).astype(np.float32)
    raw = {
        "f32": lambda: weights, "f16": lambda: weights.astype(np.float16),
        "bf16": lambda: np.ascontiguousarray((weights.view(np.uint32) >> 16).astype(np.uint16)),
    }[format.name]().view(np.uint8)  # fmt: skip
    packed = np.zeros((num_tiles(n), COLUMNS * k * format.item_bytes), np.uint8)
    pack_plain(format, raw, packed)
    tiles = num_tiles(n) // (2 if spec.epilogue.startswith("gated") else 1)
    # Rows are drawn one by one: row i is the same whatever m is.
    x = np.stack([np.random.default_rng([2, row]).standard_normal(k).astype(np.float32) for row in range(m)])
    out = np.full((m, COLUMNS * tiles), 0.5, np.float32)
    bias = random.standard_normal(n).astype(np.float32)
    item_rows = 8
    args = table({
        matmul.WEIGHTS: "weights", matmul.NUM_BLOCKS: k // BLOCK, matmul.TILE_BYTES: packed.shape[1],
        matmul.ACTIVATIONS: "x", matmul_plain.X_ROW_BYTES: 4 * k, matmul.OUT: "out",
        matmul.OUT_ROW_BYTES: 4 * out.shape[1], matmul.BIAS: "bias", matmul.NUM_TILES: tiles,
        matmul.ITEM_ROWS: item_rows,
    })  # fmt: skip
    bench = Bench({"weights": packed, "x": x, "out": out, "bias": bias}, args, [m])
    product = x.astype(np.float64) @ widen(format, raw).astype(np.float64).T
    return bench, product + bias if spec.bias else product, tiles * -(-m // item_rows)


@EVERY_TARGET
@pytest.mark.parametrize("format", PLAIN, ids=lambda f: f.name)
def test_a_product_with_plain_weights_agrees_with_float64(format: Plain, target: Target) -> None:
    spec = MatmulPlain(format.name, "store", True, 0)
    bench, expected, items = plain_bench(format, spec, 11, 2 * COLUMNS, 64)
    got = same_bits_interpreted(bench, spec, target, items)
    np.testing.assert_allclose(got, expected, atol=2e-5)


@EVERY_TARGET
@pytest.mark.parametrize("format", PLAIN, ids=lambda f: f.name)
def test_a_row_never_depends_on_how_many_rows_surround_it(format: Plain, target: Target) -> None:
    spec = MatmulPlain(format.name, "add", False, 0)
    bench, _, items = plain_bench(format, spec, 40, COLUMNS, 96)
    whole = bench.run(spec, target, items)
    for m in range(1, 40):
        bench, _, items = plain_bench(format, spec, m, COLUMNS, 96)
        assert_same_bits(bench.run(spec, target, items), whole[:m])


@pytest.mark.parametrize("format", PLAIN, ids=lambda f: f.name)
def test_plain_weights_give_the_same_bits_on_every_instruction_set(format: Plain) -> None:
    spec, results = MatmulPlain(format.name, "gated_silu", False, 0), []
    for target in available_targets():
        bench, product, items = plain_bench(format, spec, 9, 4 * COLUMNS, 64)
        results.append(bench.run(spec, target, items))
    for other in results[1:]:
        assert_same_bits(results[0], other)
    tiles = product.reshape(9, 2, 2, COLUMNS)
    expected = (silu(tiles[:, :, 0]) * tiles[:, :, 1]).reshape(9, -1)
    np.testing.assert_allclose(results[0], expected, rtol=1e-4, atol=1e-4)


@EVERY_TARGET
@pytest.mark.parametrize("format", PLAIN, ids=lambda f: f.name)
def test_no_register_is_spilled(format: Plain, target: Target) -> None:
    for epilogue in ("store", "gated_silu"):
        assert count_spills(assembly(MatmulPlain(format.name, epilogue, False, 0), target)) == 0
