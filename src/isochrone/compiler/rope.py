"""From the fused projection of a layer to rotated queries and pages of keys and values (layout: pages.py).

One work item is one token.
"""

from __future__ import annotations

from dataclasses import dataclass

from .ir import FLOAT, I32, PTR, Kernel, Type
from .isa import Target
from .pages import has_bf16_dot, query_bytes, store_key, store_value
from .table import ANGLE_STEP, PAGE_TOKENS, KvType, Word
from .tile import Tile, Value

# Words of the argument table.
(QKV, QKV_ROW_BYTES, Q_OUT, Q_ROW_BYTES, CACHE, HEAD_STRIDE, HEADS, KV_HEADS, ANGLES_HIGH, ANGLES_LOW,
 Q_NORM, K_NORM, EPS, SCALE, PAGE_STRIDE) = range(15)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RopeWrite:
    """Normalise (QK-norm) and rotate q and k, append k and v to the cache.

    rotary_dim  rotated width of a head, pairs (d, d + rotary_dim / 2); 0 for a layer without positions
    """

    head_dim: int
    rotary_dim: int
    norm: bool
    kv: KvType = "bf16"

    @property
    def name(self) -> str:
        kv = "" if self.kv == "bf16" else f"_{self.kv}"
        return f"rope_write_d{self.head_dim}_r{self.rotary_dim}{'_norm' if self.norm else ''}{kv}"

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
        page_at = t.at(t.arg(CACHE, PTR), page * t.arg(PAGE_STRIDE))
        row = t.at(t.arg(QKV, PTR), token * t.arg(QKV_ROW_BYTES))
        q_out = t.at(t.arg(Q_OUT, PTR), token * t.arg(Q_ROW_BYTES))
        heads, kv_heads = t.arg(HEADS), t.arg(KV_HEADS)
        with t.loop(0, heads) as h:
            self._rotate(t, t.at(row, h * (4 * dim)), head, position, Q_NORM)
            self._store_query(t, head, t.at(q_out, h * (dim * query_bytes(t.target, self.kv))))
        trouble, slot = t.cell(t.zeros(Type("f32", 16))), position % PAGE_TOKENS
        with t.loop(0, kv_heads) as h:
            cache = t.at(page_at, h * t.arg(HEAD_STRIDE))
            self._rotate(t, t.at(row, (heads + h) * (4 * dim)), head, position, K_NORM)
            trouble.set(trouble.get() + store_key(t, self.kv, dim, head, cache, slot))
            value = t.at(row, (heads + kv_heads + h) * (4 * dim))
            trouble.set(trouble.get() + store_value(t, self.kv, dim, value, cache, slot))
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
        scale, size = t.splat(t.arg(SCALE, FLOAT), 16), query_bytes(t.target, self.kv)
        for d in range(0, self.head_dim, 16):
            value = t.load(head, Type("f32", 16), 4 * d) * scale
            t.store(out, t.to_bf16(value) if has_bf16_dot(t.target, self.kv) else value, d * size)


def _angle(t: Tile, high: Value, low: Value, kind: Type, offset: int, sin_offset: int) -> tuple[Value, Value]:
    """cos and sin of the sum of two angles."""
    cos_a, sin_a = t.load(high, kind, offset), t.load(high, kind, sin_offset + offset)
    cos_b, sin_b = t.load(low, kind, offset), t.load(low, kind, sin_offset + offset)
    return cos_a * cos_b - sin_a * sin_b, sin_a * cos_b + cos_a * sin_b

