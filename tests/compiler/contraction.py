"""Data for matmul tests: stored weights of any format, activation panels, and the formula in NumPy, bit for bit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from isochrone.compiler.isa import Target
from isochrone.compiler.matmul import Matmul, panel_block_bytes
from isochrone.compiler.semantics import fused_multiply_add
from isochrone.graph.formats import BLOCK, COLUMNS, FORMATS, Quantised
from isochrone.weights.blocks import BLOCK_DTYPES, row_bytes, split
from isochrone.weights.dequantise import dequantise
from isochrone.weights.pack import num_tiles, pack_rows

from .harness import Bench

QUANTISED = [f for f in FORMATS.values() if isinstance(f, Quantised)]
EXTENT = 0


@dataclass(frozen=True)
class Problem:
    """y = x W^T: stored weights [n, k] and int8 activations [m, k] with a scale per block of 32."""

    format: Quantised
    raw: np.ndarray
    codes: np.ndarray
    scales: np.ndarray

    @property
    def num_columns(self) -> int:
        return len(self.raw)

    @property
    def code_sums(self) -> np.ndarray:
        """i32 [m, blocks, 2]: of each half of a block."""
        return self.codes.reshape(len(self.codes), -1, 2, BLOCK // 2).sum(-1, dtype=np.int32)

    def rows(self, chosen: slice) -> Problem:
        return Problem(self.format, self.raw, self.codes[chosen], self.scales[chosen])


def random_problem(format: Quantised, m: int, n: int, k: int, seed: int = 0) -> Problem:
    random = np.random.default_rng([seed, m, n, k])
    raw = random.integers(0, 256, (n, row_bytes(format, k)), np.uint8)
    blocks = raw.view(BLOCK_DTYPES[format.name])
    for name in {"d", "m", "dmin"} & set(blocks.dtype.names or ()):
        blocks[name] = random.uniform(-0.02, 0.02, blocks.shape)
    codes = random.integers(-127, 128, (m, k), np.int8, endpoint=False)
    return Problem(format, raw, codes, random.uniform(0.001, 0.1, (m, k // BLOCK)).astype(np.float32))


def saturated_problem(format: Quantised, m: int, k: int) -> Problem:
    """Every stored bit of codes and scales set, every activation +127 or -127."""
    raw = np.full((COLUMNS, row_bytes(format, k)), 255, np.uint8)
    blocks = raw.view(BLOCK_DTYPES[format.name])
    for name in {"d", "m", "dmin"} & set(blocks.dtype.names or ()):
        blocks[name] = 1.0
    if format.name == "q8_0":
        blocks["qs"] = 127  # stored signed
    signs = np.where(np.arange(m) % 2, -1, 1)[:, None] * np.ones(k, np.int8)
    return Problem(format, raw, (127 * signs).astype(np.int8), np.ones((m, k // BLOCK), np.float32))


def packed(problem: Problem) -> np.ndarray:
    """u8 [tiles, tile_bytes]."""
    k = problem.codes.shape[1]
    out = np.zeros((num_tiles(problem.num_columns), problem.format.tile_bytes(k)), np.uint8)
    pack_rows(problem.format, problem.raw, out)
    return out


def panels(problem: Problem, panel: int) -> np.ndarray:
    """u8 [panels, blocks, 64 * panel]: the layout that matmul.py describes, rows past the end full of 0xAA."""
    m, k = problem.codes.shape
    num_panels, blocks = -(-m // panel), k // BLOCK
    out = np.full((num_panels, blocks, panel_block_bytes(panel)), 0xAA, np.uint8)
    halves = problem.code_sums
    whole = halves.sum(-1, dtype=np.int32)
    words = np.stack([
        problem.scales.view(np.int32),
        (problem.scales * whole.astype(np.float32)).view(np.int32),
        whole,
        *((problem.scales * halves[..., h].astype(np.float32)).view(np.int32) for h in range(2)),
        *(halves[..., h] for h in range(2)),
    ])  # fmt: skip
    for row in range(m):
        at, r = out[row // panel], row % panel
        at[:, BLOCK * r : BLOCK * (r + 1)] = problem.codes[row].reshape(blocks, BLOCK).view(np.uint8)
        at[:, BLOCK * panel :].view(np.int32)[:, [w * panel + r for w in range(7)]] = words[:, row].T
    return out


def bench(
    spec: Matmul, problem: Problem, *, item_rows: int | None = None, bias: np.ndarray | None = None,
    out: np.ndarray | None = None,
) -> tuple[Bench, int]:  # fmt: skip
    """Arrays and tables for one call, and its number of work items."""
    m, k = problem.codes.shape
    tiles = num_tiles(problem.num_columns) // (2 if spec.epilogue.startswith("gated") else 1)
    item_rows = item_rows or -(-m // spec.panel) * spec.panel
    if out is None:
        out = np.full((m, COLUMNS * tiles), np.nan, np.float32)
    arrays = {"weights": packed(problem), "activations": panels(problem, spec.panel), "out": out}
    if bias is not None:
        arrays["bias"] = bias
    panel_bytes = panel_block_bytes(spec.panel) * (k // BLOCK)
    args = ["weights", k // BLOCK, problem.format.tile_bytes(k), "activations", panel_bytes, "out", out.shape[1] * 4,
            "bias" if bias is not None else 0, tiles, item_rows]  # fmt: skip
    return Bench(arrays, args, [m]), tiles * -(-m // item_rows)


def run(spec: Matmul, target: Target, problem: Problem) -> np.ndarray:
    """Compiled result, f32 [m, n]."""
    prepared, items = bench(spec, problem)
    return prepared.run(spec, target, items)


def rows_alone(target: Target, problem: Problem) -> np.ndarray:
    """Each row by the kernel for single rows."""
    spec = Matmul(problem.format.name, 1, "store", False, EXTENT)
    return np.concatenate([run(spec, target, problem.rows(slice(r, r + 1))) for r in range(len(problem.codes))])


def formula(problem: Problem) -> np.ndarray:
    """f32 [m, n] exactly as matmul.py says: integer dots, one fused multiply-add per sub-block, in order."""
    format, parts = problem.format, split(problem.format, problem.raw)
    n, k = parts.codes.shape
    subs, sub = BLOCK // format.sub, format.sub
    weights = parts.codes.astype(np.int64) - format.zero
    if format.codebook is not None:
        weights = np.array(format.codebook)[parts.codes]
    dots = np.einsum("mbi,nbi->bmn", problem.codes.astype(np.int64).reshape(-1, k // sub, sub),
                     weights.reshape(n, k // sub, sub))  # fmt: skip
    scales = _factors(parts.scales, parts.super_scales)
    sums = problem.code_sums if subs == 2 else problem.code_sums.sum(-1, dtype=np.int32, keepdims=True)
    y = np.zeros(dots.shape[1:], np.float32)
    for at in range(k // sub):
        a_scale = problem.scales[:, at // subs, None]
        y = fused_multiply_add(dots[at].astype(np.int32).astype(np.float32), scales[:, at] * a_scale, y)
        if parts.minima is not None:
            minimum = _factors(parts.minima, None if parts.super_minima is None else -parts.super_minima)[:, at]
            y = fused_multiply_add(minimum[None], a_scale * sums[:, at // subs, at % subs, None].astype(np.float32), y)
    return y


def _factors(small: np.ndarray, supers: np.ndarray | None) -> np.ndarray:
    wide = small.astype(np.float32)
    if supers is None:
        return wide
    return wide * np.repeat(supers.astype(np.float32), wide.shape[1] // supers.shape[1], axis=1)


def in_float64(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """The product of the numbers that weights and activations stand for, and the sum of its terms' magnitudes."""
    weights = dequantise(problem.format, problem.raw).astype(np.float64)
    values = problem.codes.astype(np.float64) * np.repeat(problem.scales.astype(np.float64), BLOCK, axis=1)
    largest = np.abs(weights).max()
    return values @ weights.T, np.abs(values).sum(1, keepdims=True) * largest
