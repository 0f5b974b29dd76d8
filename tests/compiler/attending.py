"""Layers of attention for tests: sequences that grow step by step, over a paged cache, by the four kernels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from isochrone.compiler import attention, attention_items, rope
from isochrone.compiler.attention import Attend, state_bytes
from isochrone.compiler.attention_items import AttentionItems, Combine
from isochrone.compiler.interpret import interpret
from isochrone.compiler.isa import Target
from isochrone.compiler.pages import query_bytes
from isochrone.compiler.rope import RopeWrite
from isochrone.compiler.table import ANGLE_STEP, PAGE_TOKENS, KvType, Word, page_bytes
from isochrone.compiler.tile import LOG2_E

from .harness import Bench, Spec, built, compiled, table

BASE, EPS = 10000.0, 1e-6


@dataclass(frozen=True)
class Shape:
    """One attention layer."""

    head_dim: int = 64
    group: int = 3
    kv_heads: int = 2
    rotary_dim: int = 64
    window: int | None = None
    norm: bool = False
    kv: KvType = "bf16"

    @property
    def heads(self) -> int:
        return self.group * self.kv_heads

    @property
    def scale(self) -> float:
        return LOG2_E / self.head_dim**0.5


@dataclass(frozen=True)
class Chunk:
    """Positions begin .. end - 1 of a sequence, computed in this step."""

    sequence: int
    begin: int
    end: int


@dataclass(frozen=True)
class Step:
    """What one step wrote: outputs f32 [tokens, heads, dim], rotated queries, and which sequences were poisoned."""

    out: np.ndarray
    queries: np.ndarray
    poison: np.ndarray
    num_items: int
    num_combines: int


class Layer:
    """One layer of one model that serves some sequences; positions get the same inputs in whatever step they come."""

    def __init__(
        self, target: Target, shape: Shape, *, num_sequences: int = 2, context: int = 640, partial_rows: int = 4096,
        interpreted: bool = False,
    ) -> None:  # fmt: skip
        self.target, self.shape, self.context = target, shape, context
        self.partial_rows, self.interpreted = partial_rows, interpreted
        random = np.random.default_rng(0)
        width = (shape.heads + 2 * shape.kv_heads) * shape.head_dim
        self.qkv = random.standard_normal((num_sequences, context, width)).astype(np.float32)
        pages = -(-context // PAGE_TOKENS)
        self.pages = random.permutation(num_sequences * pages).astype(np.int32).reshape(num_sequences, pages)
        # Never zero: what was not written must not matter, and bf16 0x7F7F is finite and huge.
        size = page_bytes(shape.head_dim, shape.kv)
        self.cache = np.full((shape.kv_heads, num_sequences * pages, size), 0x7F, np.uint8)
        self.norms = random.uniform(0.5, 1.5, (2, shape.head_dim)).astype(np.float32)

    @property
    def query_bytes(self) -> int:
        return query_bytes(self.target, self.shape.kv)

    def step(self, *chunks: Chunk) -> Step:
        """Append the chunks' keys and values, and attend."""
        bench, args = self._prepare(chunks)
        shape, ctx = self.shape, bench.ctx
        write = RopeWrite(shape.head_dim, shape.rotary_dim, shape.norm, shape.kv)
        self._run(write, bench, args["rope"], int(ctx[Word.TOKENS]))
        self._run(AttentionItems(shape.group), bench, args["items"], 1)
        items, combines = int(ctx[Word.ATTEND_ITEMS]), int(ctx[Word.COMBINE_ITEMS])
        self._run(Attend(shape.head_dim, shape.group, shape.window is not None, shape.kv), bench, args["attend"], items)
        self._run(Combine(shape.head_dim, shape.group), bench, args["attend"], combines)
        out = bench.arrays["out"].reshape(-1, shape.heads, shape.head_dim)
        return Step(out, bench.arrays["queries"], bench.arrays["poison"], items, combines)

    def _run(self, spec: Spec, bench: Bench, args: np.ndarray, items: int) -> None:
        if self.interpreted:
            interpret(built(spec, self.target), bench.memory, bench.ctx, args, begin=0, end=items)
        else:
            compiled(spec, self.target)(bench.ctx, args, 0, items)

    def _prepare(self, chunks: tuple[Chunk, ...]) -> tuple[Bench, dict[str, np.ndarray]]:
        arrays = self._arrays(chunks)
        ctx = table({
            Word.TOKENS: len(arrays["positions"]), Word.SEQUENCES: len(chunks), Word.POSITIONS: "positions",
            Word.TOKEN_SEQUENCES: "sequences", Word.STARTS: "starts", Word.PAGES: "pages",
            Word.PAGES_ROW_BYTES: 4 * self.pages.shape[1], Word.ITEMS: "items", Word.COMBINES: "combines",
            Word.PARTIAL_ROWS_MAX: self.partial_rows, Word.POISON: "poison", Word.NUM_WORDS: 0,
        })  # fmt: skip
        shape, query = self.shape, self.query_bytes
        bench = Bench(arrays, [], ctx)
        self.cache = bench.arrays["cache"]
        stride, page_stride = self.cache.strides[:2]
        tables = {
            "rope": {
                rope.QKV: "qkv", rope.QKV_ROW_BYTES: 4 * arrays["qkv"].shape[1], rope.Q_OUT: "queries",
                rope.Q_ROW_BYTES: shape.heads * shape.head_dim * query, rope.CACHE: "cache", rope.HEAD_STRIDE: stride,
                rope.HEADS: shape.heads, rope.KV_HEADS: shape.kv_heads, rope.ANGLES_HIGH: "high",
                rope.ANGLES_LOW: "low", rope.Q_NORM: "q_norm", rope.K_NORM: "k_norm", rope.EPS: EPS,
                rope.SCALE: shape.scale, rope.PAGE_STRIDE: page_stride,
            },
            "items": {attention_items.NUM_KV_HEADS: shape.kv_heads},
            "attend": {
                attention.Q: "queries", attention.Q_ROW_BYTES: shape.heads * shape.head_dim * query,
                attention.CACHE: "cache", attention.HEAD_STRIDE: stride, attention.OUT: "out",
                attention.OUT_ROW_BYTES: 4 * shape.heads * shape.head_dim, attention.PARTIALS: "partials",
                attention.WINDOW: shape.window or 0, attention.PAGE_STRIDE: page_stride,
            },
        }  # fmt: skip
        return bench, {name: bench.words(table(words)) for name, words in tables.items()}

    def _arrays(self, chunks: tuple[Chunk, ...]) -> dict[str, np.ndarray]:
        shape = self.shape
        positions = np.concatenate([np.arange(c.begin, c.end, dtype=np.int32) for c in chunks])
        lengths = np.array([c.end - c.begin for c in chunks])
        frequencies = BASE ** (-np.arange(shape.rotary_dim // 2) / max(shape.rotary_dim // 2, 1))
        turns = {"high": ANGLE_STEP * np.arange(-(-self.context // ANGLE_STEP)), "low": np.arange(ANGLE_STEP)}
        angles = {name: turn[:, None] * frequencies for name, turn in turns.items()}
        return {
            **{n: np.concatenate([np.cos(a), np.sin(a)], axis=1).astype(np.float32) for n, a in angles.items()},
            "positions": positions,
            "sequences": np.repeat(np.arange(len(chunks), dtype=np.int32), lengths),
            "starts": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32),
            "pages": self.pages[[c.sequence for c in chunks]],
            "qkv": np.concatenate([self.qkv[c.sequence, c.begin : c.end] for c in chunks]),
            "queries": np.zeros((len(positions), shape.heads * shape.head_dim * self.query_bytes), np.uint8),
            "cache": self.cache,
            "q_norm": self.norms[0], "k_norm": self.norms[1],
            "items": np.zeros((4096, attention.ITEM_BYTES), np.uint8),
            "combines": np.zeros((1024, attention.ITEM_BYTES), np.uint8),
            "partials": np.zeros((max(self.partial_rows, 1), state_bytes(shape.head_dim)), np.uint8),
            "poison": np.zeros(len(chunks), np.int32),
            "out": np.full((len(positions), 4 * shape.heads * shape.head_dim), 0xFF, np.uint8).view(np.float32),
        }  # fmt: skip

    # --- what the kernels should have done ------------------------------------------------------------------------

    def cached(self, sequence: int, num_positions: int) -> tuple[np.ndarray, np.ndarray]:
        """Keys and values f64 [kv_heads, positions, dim] as the pages hold them (layout: pages.py)."""
        kv_heads, dim = self.shape.kv_heads, self.shape.head_dim
        halves = self.cache[:, self.pages[sequence]].reshape(kv_heads, -1, 2, page_bytes(dim, self.shape.kv) // 2)
        read = _bf16_half if self.shape.kv == "bf16" else _int8_half
        elements, scales = zip(*(read(np.ascontiguousarray(halves[:, :, h]), dim) for h in range(2)), strict=True)
        per = 2 if self.shape.kv == "bf16" else 4
        keys = elements[0].reshape(kv_heads, -1, 2, dim // per, 16, per).transpose(0, 1, 2, 4, 3, 5)
        values = elements[1].reshape(kv_heads, -1, PAGE_TOKENS // per, dim, per).transpose(0, 1, 2, 4, 3)
        keys, values = (x.reshape(kv_heads, -1, dim) * s for x, s in zip((keys, values), scales, strict=True))
        return keys[:, :num_positions], values[:, :num_positions]

    def inputs(self, sequence: int, begin: int, end: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Queries, keys and values f64 [positions, heads, dim]: normalised and rotated, not yet scaled or rounded."""
        shape = self.shape
        rows = self.qkv[sequence, begin:end].astype(np.float64).reshape(end - begin, -1, shape.head_dim)
        q, k, v = np.split(rows, [shape.heads, shape.heads + shape.kv_heads], axis=1)
        positions = np.arange(begin, end)
        return self._turned(q, positions, 0), self._turned(k, positions, 1), v

    def _turned(self, x: np.ndarray, positions: np.ndarray, which: int) -> np.ndarray:
        if self.shape.norm:
            x = x / np.sqrt((x * x).mean(-1, keepdims=True) + EPS) * self.norms[which]
        half = self.shape.rotary_dim // 2
        angle = positions[:, None, None] * BASE ** (-np.arange(half) / max(half, 1))
        a, b, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
        return np.concatenate([a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle), rest], -1)

    def attended(self, sequence: int, queries: np.ndarray, begin: int) -> np.ndarray:
        """f64 [tokens, heads, dim] from scaled queries [tokens, heads, dim] and what the cache holds."""
        shape, end = self.shape, begin + len(queries)
        keys, values = (np.repeat(x, shape.group, axis=0) for x in self.cached(sequence, end))
        scores = np.einsum("thd,hpd->thp", queries, keys)
        distance = np.arange(begin, end)[:, None] - np.arange(end)
        is_seen = (distance >= 0) & (distance < (shape.window or end + 1))
        weights = np.where(is_seen[:, None], np.exp2(scores - scores.max(-1, keepdims=True)), 0)
        return np.einsum("thp,hpd->thd", weights / weights.sum(-1, keepdims=True), values)

    def queries_of(self, step: Step) -> np.ndarray:
        """Scaled queries f64 [tokens, heads, dim] as the step wrote them."""
        raw = step.queries.reshape(len(step.queries), -1)
        if self.query_bytes == 2:
            wide = (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
        else:
            wide = raw.view(np.float32)
        return wide.astype(np.float64).reshape(len(raw), self.shape.heads, self.shape.head_dim)


def _bf16_half(raw: np.ndarray, dim: int) -> tuple[np.ndarray, float]:
    """Elements f64 in the order of the page, and their scale."""
    return (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32).astype(np.float64), 1.0


def _int8_half(raw: np.ndarray, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Elements f64 in the order of the page, and a scale for each position."""
    codes = np.ascontiguousarray(raw[..., : PAGE_TOKENS * dim]).view(np.int8).astype(np.float64)
    scales = np.ascontiguousarray(raw[..., PAGE_TOKENS * dim :]).view(np.float32).astype(np.float64)
    return codes, scales.reshape(len(raw), -1, 1)
