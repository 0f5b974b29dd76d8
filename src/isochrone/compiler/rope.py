"""From the fused projection of a layer to rotated queries and pages of keys and values.  One item is one token.

Layout of a page of one KV head (bf16), chosen so that both dot forms stream it in order:
    keys    [2 groups of 16 positions][head_dim / 2][16 positions][2]
    values  [16 pairs of positions][head_dim][2]
"""

from __future__ import annotations

from dataclasses import dataclass

from .ir import FLOAT, I32, PTR, Kernel, Type
from .isa import Target
from .table import PAGE_TOKENS, Word, page_bytes
from .tile import Tile, Value

# Words of the argument table.
(QKV, QKV_ROW_BYTES, Q_OUT, Q_ROW_BYTES, CACHE, HEAD_STRIDE, HEADS, KV_HEADS, ANGLES_HIGH, ANGLES_LOW,
 Q_NORM, K_NORM, EPS, SCALE) = range(14)  # fmt: skip
NUM_ARGS = 14

ANGLE_STEP = 64
"""Positions are split into high * 64 + low, and their angles added: two small tables reach any context."""


@dataclass(frozen=True, slots=True)
class RopeWrite:
    """Normalise (QK-norm) and rotate q and k, append k and v to the cache.

    rotary_dim  rotated width of a head, pairs (d, d + rotary_dim / 2); 0 for a layer without positions
    """

    head_dim: int
    rotary_dim: int
    norm: bool

    @property
    def name(self) -> str:
        return f"rope_write_d{self.head_dim}_r{self.rotary_dim}{'_norm' if self.norm else ''}"

    def build(self, target: Target) -> Kernel:
        t = Tile(self.name, target)
        head = t.stack(4 * self.head_dim)
        with t.items() as token:
            self._token(t, token, head)
        return t.finish()

    def _token(self, t: Tile, token: Value, head: Value) -> None:
        dim = self.head_dim
        position = t.cast("sext", t.load(t.extent(Word.POSITIONS, PTR), I32, token * 4), "i64")
        sequence = t.cast("sext", t.load(t.extent(Word.TOKEN_SEQUENCES, PTR), I32, token * 4), "i64")
        pages = t.at(t.extent(Word.PAGES, PTR), sequence * t.extent(Word.PAGES_ROW_BYTES))
        page = t.cast("sext", t.load(pages, I32, (position // PAGE_TOKENS) * 4), "i64")
        page_at = t.at(t.arg(CACHE, PTR), page * page_bytes(dim))
        row = t.at(t.arg(QKV, PTR), token * t.arg(QKV_ROW_BYTES))
        q_out = t.at(t.arg(Q_OUT, PTR), token * t.arg(Q_ROW_BYTES))
        heads, kv_heads = t.arg(HEADS), t.arg(KV_HEADS)
        with t.loop(0, heads) as h:
            self._rotate(t, t.at(row, h * (4 * dim)), head, position, Q_NORM)
            self._store_query(t, head, t.at(q_out, h * (dim * query_bytes(t.target))))
        trouble = t.cell(t.zeros(Type("f32", 16)))
        with t.loop(0, kv_heads) as h:
            cache = t.at(page_at, h * t.arg(HEAD_STRIDE))
            self._rotate(t, t.at(row, (heads + h) * (4 * dim)), head, position, K_NORM)
            trouble.set(trouble.get() + self._store_key(t, head, cache, position % PAGE_TOKENS))
            value = t.at(row, (heads + kv_heads + h) * (4 * dim))
            trouble.set(trouble.get() + self._store_value(t, value, cache, position % PAGE_TOKENS))
        total = t.sum(trouble.get())
        with t.when(t.compare("uno", total, total)):
            t.store(t.extent(Word.POISON, PTR), t.const(1, I32), sequence * 4)

    def _rotate(self, t: Tile, x: Value, out: Value, position: Value, norm_word: int) -> None:
        """One head to the stack: normalised, then rotated."""
        factor = None
        if self.norm:
            squares = t.zeros(Type("f32", 16))
            for d in range(0, self.head_dim, 16):
                part = t.load(x, Type("f32", 16), 4 * d)
                squares = t.fma(part, part, squares)
            mean = t.sum(squares) * (1.0 / self.head_dim)
            factor = t.const(1.0, FLOAT) / t.sqrt(mean + t.arg(EPS, FLOAT))
        half = self.rotary_dim // 2
        lanes = next(n for n in (16, 8, 4, 2) if half % n == 0) if half else 16
        kind = Type("f32", lanes)
        high = t.at(t.arg(ANGLES_HIGH, PTR), (position // ANGLE_STEP) * (8 * half))
        low = t.at(t.arg(ANGLES_LOW, PTR), (position % ANGLE_STEP) * (8 * half))
        for d in range(0, half, lanes):
            cos, sin = _angle(t, high, low, kind, 4 * d, 4 * half)
            first = self._scaled(t, x, factor, norm_word, kind, d)
            second = self._scaled(t, x, factor, norm_word, kind, d + half)
            t.store(out, first * cos - second * sin, 4 * d)
            t.store(out, second * cos + first * sin, 4 * (d + half))
        lanes = 16 if (self.head_dim - self.rotary_dim) % 16 == 0 else 2
        for d in range(self.rotary_dim, self.head_dim, lanes):
            t.store(out, self._scaled(t, x, factor, norm_word, Type("f32", lanes), d), 4 * d)

    def _scaled(self, t: Tile, x: Value, factor: Value | None, norm_word: int, kind: Type, d: int) -> Value:
        value = t.load(x, kind, 4 * d)
        if factor is None:
            return value
        return value * t.splat(factor, kind.lanes) * t.load(t.arg(norm_word, PTR), kind, 4 * d)

    def _store_query(self, t: Tile, head: Value, out: Value) -> None:
        scale = t.splat(t.arg(SCALE, FLOAT), 16)
        for d in range(0, self.head_dim, 16):
            value = t.load(head, Type("f32", 16), 4 * d) * scale
            t.store(out, t.to_bf16(value) if t.target.bf16_dot else value, d * query_bytes(t.target))

    def _store_key(self, t: Tile, head: Value, cache: Value, slot: Value) -> Value:
        """Returns lanes that are NaN where something was not finite; the cache itself stays finite."""
        dim = self.head_dim
        at = t.at(cache, (slot // 16) * (32 * dim) + (slot % 16) * 4)
        trouble = t.zeros(Type("f32", 16))
        for d in range(0, dim, 16):
            value = t.load(head, Type("f32", 16), 4 * d)
            trouble = trouble + value * 0.0
            pairs = t.bitcast(t.to_bf16(_finite(t, value)), Type("i32", 8))
            for pair in range(8):
                t.store(at, t.extract(pairs, pair), (d // 2 + pair) * 64)
        return trouble

    def _store_value(self, t: Tile, value_at: Value, cache: Value, slot: Value) -> Value:
        dim = self.head_dim
        at = t.at(cache, (slot // 2) * (4 * dim) + (slot % 2) * 2 + 2 * PAGE_TOKENS * dim)
        trouble = t.zeros(Type("f32", 16))
        for d in range(0, dim, 16):
            value = t.load(value_at, Type("f32", 16), 4 * d)
            trouble = trouble + value * 0.0
            halves = t.to_bf16(_finite(t, value))
            for lane in range(16):
                t.store(at, t.extract(halves, lane), 4 * (d + lane))
        return trouble


def query_bytes(target: Target) -> int:
    """Bytes of one element of a query: bf16 where a bf16 dot exists, else f32."""
    return 2 if target.bf16_dot else 4


def _angle(t: Tile, high: Value, low: Value, kind: Type, offset: int, sin_offset: int) -> tuple[Value, Value]:
    """cos and sin of the sum of two angles."""
    cos_a, sin_a = t.load(high, kind, offset), t.load(high, kind, sin_offset + offset)
    cos_b, sin_b = t.load(low, kind, offset), t.load(low, kind, sin_offset + offset)
    return cos_a * cos_b - sin_a * sin_b, sin_a * cos_b + cos_a * sin_b


def _finite(t: Tile, value: Value) -> Value:
    """Zero in place of NaN and infinity: a page outlives its sequence, and 0 * NaN would poison the next one."""
    bound = t.compare("ole", t.absolute(value), t.const(3.0e38, value.type))
    return t.select(bound, value, t.zeros(value.type))
