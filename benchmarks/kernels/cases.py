"""What is measured: a kernel, data of a size that a model has, and the limit that its work runs against."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from isochrone.compiler import attention, matmul, rows
from isochrone.compiler.isa import Target
from isochrone.compiler.kernels import KernelSpec
from isochrone.compiler.pages import query_bytes
from isochrone.compiler.table import CHUNK, PAGE_TOKENS, Word, page_bytes
from isochrone.graph.formats import BLOCK, COLUMNS, FORMATS, Quantised
from isochrone.weights.blocks import BLOCK_DTYPES, row_bytes
from isochrone.weights.pack import pack_rows

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Data:
    """Arrays, the tables that point to them, and how many work items there are."""

    arrays: dict[str, Array]
    ctx: Array
    args: Array
    num_items: int


@dataclass(frozen=True, slots=True)
class Case:
    """One line of the report.

    amount   what one call does, in the unit of the limit: bytes that it must read, or operations
    limit    "read": the bandwidth for as many bytes; "int8", "float": the peak of the dot product that is used
    """

    family: str
    label: str
    spec: KernelSpec
    limit: Literal["read", "int8", "float"]
    amount: float
    make: Callable[[], Data]


def cases(target: Target) -> Iterator[Case]:
    """Every case of one instruction set, matmul first."""
    for format in ("q4_0", "q8_0", "q4_k", "q6_k"):
        yield matmul_case(target, format, 1, 1024, 1024)
        yield matmul_case(target, format, 1, 16384, 1024)
        yield matmul_case(target, format, 512, 3072, 1024)
    yield matmul_case(target, "q4_0", 1, 151936, 1024)
    for num_rows in (1, 512):
        yield rows_case(target, num_rows, 1024)
    for head_dim, group, kv_heads in ((64, 3, 3), (128, 2, 8)):  # SmolLM2-135M, Qwen3-0.6B
        yield attention_case(target, head_dim, group, kv_heads, begin=4095, end=4096)
        yield attention_case(target, head_dim, group, kv_heads, begin=0, end=512)


def matmul_case(target: Target, format_name: str, m: int, n: int, k: int) -> Case:
    """y[m, n] = x[m, k] W^T: one row is bound by reading W, many by the integer units."""
    format = FORMATS[format_name]
    assert isinstance(format, Quantised)
    panel = matmul.panel_rows(target, m)
    num_tiles = n // COLUMNS
    weight_bytes = num_tiles * format.tile_bytes(k)
    return Case(
        family="matmul",
        label=f"{format_name} {m} x {n} x {k}",
        spec=matmul.Matmul(format_name, panel, "store", False, 0),
        limit="read" if m == 1 else "int8",
        amount=weight_bytes if m == 1 else 2 * m * n * k,
        make=lambda: _matmul_data(format, panel, m, n, k),
    )


def rows_case(target: Target, num_rows: int, k: int) -> Case:
    """RMS norm and quantisation of rows."""
    panel = matmul.panel_rows(target, num_rows)
    return Case(
        family="rows",
        label=f"norm and quantise {num_rows} x {k}",
        spec=rows.Rows(norm=True, quantise=True, panel=panel, gather=None, extent=0),
        limit="read",
        amount=num_rows * k * 4,
        make=lambda: _rows_data(panel, num_rows, k),
    )


def attention_case(target: Target, head_dim: int, group: int, kv_heads: int, *, begin: int, end: int) -> Case:
    """Positions begin .. end - 1 of one sequence over its cache: one is bound by reading it, many by arithmetic."""
    is_decode = end - begin == 1
    num_pairs = sum(range(begin + 1, end + 1)) * group * kv_heads
    return Case(
        family="attention",
        label=f"{end - begin} of {end}, {kv_heads} x {group} x {head_dim}",
        spec=attention.Attend(head_dim, group, False),
        limit="read" if is_decode else "float",
        amount=end * kv_heads * head_dim * 4 if is_decode else 4 * head_dim * num_pairs,
        make=lambda: _attention_data(target, head_dim, group, kv_heads, begin, end),
    )


_ITEM_ROWS = 64
_REPEATED_TILES = 64


def _matmul_data(format: Quantised, panel: int, m: int, n: int, k: int) -> Data:
    random = np.random.default_rng(0)
    tiles = min(n // COLUMNS, _REPEATED_TILES)
    raw = random.integers(0, 256, (tiles * COLUMNS, row_bytes(format, k)), np.uint8)
    blocks = raw.view(BLOCK_DTYPES[format.name])
    for name in {"d", "m", "dmin"} & set(blocks.dtype.names or ()):
        blocks[name] = random.uniform(0.01, 0.02, blocks.shape)
    few = np.zeros((tiles, format.tile_bytes(k)), np.uint8)
    pack_rows(format, raw, few)
    packed = np.resize(few, (n // COLUMNS, few.shape[1]))
    panel_bytes = matmul.panel_block_bytes(panel) * (k // BLOCK)
    panels = random.integers(0, 127, (-(-m // panel), k // BLOCK, matmul.panel_block_bytes(panel)), np.uint8)
    panels[:, :, BLOCK * panel :].view(np.float32)[:, :, : 2 * panel] = 0.01
    out = np.zeros((m, n), np.float32)
    args = [packed.ctypes.data, k // BLOCK, few.shape[1], panels.ctypes.data, panel_bytes, out.ctypes.data, 4 * n, 0,
            n // COLUMNS, 1 if m == 1 else _ITEM_ROWS]  # fmt: skip
    num_items = n // COLUMNS * (1 if m == 1 else -(-m // _ITEM_ROWS))
    return Data({"packed": packed, "panels": panels, "out": out}, _words(m), _words(*args), num_items)


def _rows_data(panel: int, num_rows: int, k: int) -> Data:
    random = np.random.default_rng(0)
    x = random.standard_normal((num_rows, k)).astype(np.float32)
    weight = random.standard_normal(k).astype(np.float32)
    panel_bytes = matmul.panel_block_bytes(panel) * (k // BLOCK)
    out = np.zeros((-(-num_rows // panel), panel_bytes), np.uint8)
    args = _words(x.ctypes.data, 4 * k, k // BLOCK, out.ctypes.data, panel_bytes, weight.ctypes.data, 0, 0, 0)
    args.view(np.float32)[2 * rows.EPS], args.view(np.float32)[2 * rows.INVERSE_K] = 1e-5, 1 / k
    return Data({"x": x, "weight": weight, "out": out}, _words(num_rows), args, len(out))


def _attention_data(target: Target, head_dim: int, group: int, kv_heads: int, begin: int, end: int) -> Data:
    random, num_pages, m = np.random.default_rng(0), -(-end // PAGE_TOKENS), end - begin
    width, item_bytes = kv_heads * group * head_dim, query_bytes(target)
    cache = _bf16(random.standard_normal((kv_heads, num_pages, page_bytes(head_dim) // 2)))
    queries = random.standard_normal((m, width)).astype(np.float32) / head_dim**0.5
    if item_bytes == 2:
        queries = _bf16(queries)
    pages, out = random.permutation(num_pages).astype(np.int32), np.zeros((m, width), np.float32)
    step = attention.item_tokens(group)
    items = np.array([
        (0, head, first, min(step, m - first), begin + first, 0, -(-(begin + min(first + step, m)) // CHUNK), -1)
        for first in range(0, m, step) for head in range(kv_heads)
    ], np.int32)  # fmt: skip
    ctx = np.zeros(Word.NUM_WORDS, np.int64)
    ctx[Word.PAGES], ctx[Word.PAGES_ROW_BYTES], ctx[Word.ITEMS] = pages.ctypes.data, pages.nbytes, items.ctypes.data
    args = _words(queries.ctypes.data, width * item_bytes, cache.ctypes.data, cache.strides[0], out.ctypes.data,
                  4 * width, 0, 0, cache.strides[1])  # fmt: skip
    arrays = {"cache": cache, "queries": queries, "pages": pages, "items": items, "out": out}
    return Data(arrays, ctx, args, len(items))


def _bf16(values: Array) -> Array:
    return np.ascontiguousarray((values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16))


def _words(*words: int) -> Array:
    return np.array(words, np.int64)
