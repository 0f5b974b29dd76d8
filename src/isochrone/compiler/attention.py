"""The attention anchor: paged, causal, online softmax (Milakov & Gimelshein 2018; Dao et al. 2022).

Positions are summed in chunks of 256, each on its own, and chunks are merged in order.  A decode step spreads the
chunks over workers and merges afterwards; a prefill item walks them itself.  The arithmetic is the same, so batch,
chunking of the prompt and threads never change a bit.

A row is one query head of one token; the rows of one KV head share its keys and values.  State of a row:
    maximum f32 | sum f32 [16] | accumulator f32 [head_dim]
"""

from __future__ import annotations

from dataclasses import dataclass

from .ir import FLOAT, I32, PTR, Kernel, Type
from .isa import Target
from .pages import accumulate, has_bf16_dot, load_scales, query_bytes
from .table import CHUNK, PAGE_TOKENS, SUBCHUNK, KvType, Word, elements_per_lane, page_bytes, values_offset
from .tile import Tile, Value

# Words of the argument table.
Q, Q_ROW_BYTES, CACHE, HEAD_STRIDE, OUT, OUT_ROW_BYTES, PARTIALS, WINDOW, PAGE_STRIDE = range(9)

# Fields (i32) of an attention item and of a combine item.
SEQUENCE, KV_HEAD, FIRST_TOKEN, NUM_TOKENS, POSITION, CHUNK_BEGIN, CHUNK_END, SLOT = range(8)
ITEM_BYTES = 32

_F = Type("f32", 16)
LOWEST, MASKED = -1.0e30, -3.0e38
"""A masked score stays far below the lowest maximum, so its weight is exactly zero."""
_ROWS_MAX = 32


def item_tokens(group: int) -> int:
    """Most tokens of one attention item: 32 rows of queries."""
    return max(1, _ROWS_MAX // group)


def state_bytes(head_dim: int) -> int:
    """Bytes of the state of one row: maximum (padded), sum, accumulator."""
    return 64 + 64 + 4 * head_dim


@dataclass(frozen=True, slots=True)
class Attend:
    """Attention of this step's tokens over the paged cache.

    group   query heads per KV head
    window  whether a token sees only the last WINDOW positions
    """

    head_dim: int
    group: int
    window: bool
    kv: KvType = "bf16"

    @property
    def name(self) -> str:
        kv = "" if self.kv == "bf16" else f"_{self.kv}"
        return f"attend_d{self.head_dim}_g{self.group}{'_window' if self.window else ''}{kv}"

    def build(self, target: Target) -> Kernel:
        t = Tile(self.name, target)
        _Attend(t, self).emit()
        return t.finish()


class _Attend:
    """Emits the attention kernel."""

    def __init__(self, t: Tile, spec: Attend) -> None:
        self.t, self.spec, self.dim = t, spec, spec.head_dim
        self.size, self.per_lane = query_bytes(t.target, spec.kv), elements_per_lane(spec.kv)
        rows = _ROWS_MAX + 4
        if item_tokens(spec.group) * spec.group > _ROWS_MAX:
            rows = spec.group + 4
        self.state = state_bytes(self.dim)
        self.queries = t.stack(rows * self.dim * self.size)
        self.total, self.partial = t.stack(rows * self.state), t.stack(rows * self.state)
        self.scores = t.stack(4 * SUBCHUNK * 4)
        self.weights = t.stack(4 * SUBCHUNK * self.size)
        self.window = t.arg(WINDOW)
        # Accumulators of a tile of 4 rows: 4 x 4 vectors on 32 registers, 4 x 2 on 16.
        self.block = 4 if t.target.registers >= 32 else 2

    def emit(self) -> None:
        t = self.t
        with t.items() as index:
            item = t.at(t.extent(Word.ITEMS, PTR), index * ITEM_BYTES)
            field = [t.cast("sext", t.load(item, I32, 4 * f), "i64") for f in range(8)]
            rows = field[NUM_TOKENS] * self.spec.group
            self._gather_queries(field, rows)
            pages = t.at(t.extent(Word.PAGES, PTR), field[SEQUENCE] * t.extent(Word.PAGES_ROW_BYTES))
            cache = t.at(t.arg(CACHE, PTR), field[KV_HEAD] * t.arg(HEAD_STRIDE))
            last = field[POSITION] + field[NUM_TOKENS] - 1
            # The next item may be another worker's: nothing is asked for beyond the end of this one.
            end = t.minimum(last, field[CHUNK_END] * CHUNK - 1)
            self._prefetch_first(pages, cache, field[CHUNK_BEGIN] * CHUNK, end)
            self._clear(self.total, rows)
            with t.loop(field[CHUNK_BEGIN], field[CHUNK_END]) as chunk:
                self._clear(self.partial, rows)
                with t.loop(chunk * CHUNK, (chunk + 1) * CHUNK, SUBCHUNK) as base:
                    with t.when(self._seen(base, field[POSITION], last)):
                        self._subchunk(pages, cache, base, field[POSITION], last, end, rows)
                with t.loop(0, rows) as row:
                    merge(t, t.at(self.total, row * self.state), t.at(self.partial, row * self.state), self.dim)
            self._finish(field, rows)

    def _seen(self, base: Value, first: Value, last: Value) -> Value:
        """Whether any row of the item sees a position of the subchunk."""
        seen = self.t.compare("sle", base, last)
        if self.spec.window:
            seen = seen & self.t.compare("sgt", base + SUBCHUNK, first - self.window + 1)
        return seen

    def _gather_queries(self, field: list[Value], rows: Value) -> None:
        """Rows of queries one after another on the stack."""
        t, group, row_bytes = self.t, self.spec.group, self.dim * self.size
        base = t.at(t.arg(Q, PTR), field[FIRST_TOKEN] * t.arg(Q_ROW_BYTES) + field[KV_HEAD] * (group * row_bytes))
        with t.loop(0, rows) as row:
            source = t.at(base, (row // group) * t.arg(Q_ROW_BYTES) + (row % group) * row_bytes)
            for offset in range(0, row_bytes, 32):
                t.store(self.queries, t.load(source, Type("i32", 8), offset), row * row_bytes + offset)

    def _clear(self, state: Value, rows: Value) -> None:
        t = self.t
        with t.loop(0, rows) as row:
            at = t.at(state, row * self.state)
            t.store(at, t.const(LOWEST, FLOAT))
            for offset in range(64, self.state, 64):
                t.store(at, t.zeros(_F), offset)

    def _pages_at(self, pages: Value, cache: Value, base: Value, last: Value) -> list[Value]:
        """Addresses of the pages of a subchunk.

        A page past the last position is never allocated: the last one stands for it, and its positions are masked.
        """
        t, found = self.t, []
        for half in range(SUBCHUNK // PAGE_TOKENS):
            position = t.minimum(base + PAGE_TOKENS * half, last)
            page = t.cast("sext", t.load(pages, I32, (position // PAGE_TOKENS) * 4), "i64")
            found.append(t.at(cache, page * t.arg(PAGE_STRIDE)))
        return found

    def _prefetch_first(self, pages: Value, cache: Value, base: Value, end: Value) -> None:
        """Ask for the first subchunk of an item; each later one is asked for while the one before it is summed."""
        t = self.t
        for page in self._pages_at(pages, cache, base, end):
            with t.loop(0, page_bytes(self.dim, self.spec.kv), 64 * 8) as offset:
                for line in range(8):
                    t.prefetch(t.at(page, offset), 64 * line)

    def _subchunk(
        self, pages: Value, cache: Value, base: Value, first: Value, last: Value, end: Value, rows: Value
    ) -> None:  # fmt: skip
        t = self.t
        page_at = self._pages_at(pages, cache, base, last)
        following_at = self._pages_at(pages, cache, base + SUBCHUNK, end)
        with t.loop(0, rows, 4) as row:
            left = rows - row
            for count, condition in (
                (4, t.compare("sgt", left, 3)),
                (3, t.compare("eq", left, 3)),
                (2, t.compare("eq", left, 2)),
                (1, t.compare("eq", left, 1)),
            ):
                with t.when(condition):
                    self._tile(page_at, following_at, base, first, row, count)

    def _tile(
        self, page_at: list[Value], following_at: list[Value], base: Value, first: Value, row: Value, count: int
    ) -> None:
        """`count` rows against 64 positions."""
        self._dot_keys(page_at, following_at, self.t.at(self.queries, row * (self.dim * self.size)), count)
        state = self.t.at(self.partial, row * self.state)
        for m in range(count):
            self._softmax(page_at, base, first, row, m, state)
        self._add_values(page_at, following_at, state, count)

    def _dot_keys(self, page_at: list[Value], following_at: list[Value], queries: Value, count: int) -> None:
        t, lanes = self.t, self.t.target.lanes
        pages = zip(page_at, following_at, strict=True)
        vectors = [(*page, group, v) for page in pages for group in range(2) for v in range(16 // lanes)]
        for start in range(0, len(vectors), self.block):
            chosen = vectors[start : start + self.block]
            cells = [[t.cell(t.zeros(Type("f32", lanes))) for _ in chosen] for _ in range(count)]
            group_bytes = 64 * self.dim // self.per_lane
            with t.loop(0, self.dim // self.per_lane) as step:
                words = [
                    t.load(t.at(page, step * 64), Type("i32", lanes), group * group_bytes + 4 * lanes * v)
                    for page, _, group, v in chosen
                ]
                # The caches' own prefetchers stop at the end of a page: a decode step waits for memory without this.
                for _, following, group, v in chosen:
                    if v == 0:
                        t.prefetch(t.at(following, step * 64), group * group_bytes)
                query = t.at(queries, step * (self.per_lane * self.size))
                rows_at = [t.at(query, m * self.dim * self.size) for m in range(count)]
                accumulate(t, self.spec.kv, cells, words, rows_at)
            for m, row in enumerate(cells):
                for v, cell in enumerate(row):
                    t.store(self.scores, cell.get(), 4 * (SUBCHUNK * m + lanes * (start + v)))

    def _softmax(self, page_at: list[Value], base: Value, first: Value, row: Value, m: int, states: Value) -> None:
        """Scores of one row to weights; the row's maximum, sum and correction move on."""
        t, state = self.t, self.t.at(states, m * self.state)
        position = first + (row + m) // self.spec.group
        limit = t.splat(t.cast("trunc", position - base, "i32"), 16)
        scores = []
        for v in range(SUBCHUNK // 16):
            lane = t.iota(16) + 16 * v
            visible = t.compare("sle", lane, limit)
            if self.spec.window:
                oldest = t.splat(t.cast("trunc", position - base - self.window, "i32"), 16)
                visible = visible & t.compare("sgt", lane, oldest)
            score = t.load(self.scores, _F, 4 * (SUBCHUNK * m + 16 * v))
            if self.spec.kv == "int8":
                score = score * load_scales(t, page_at[v // 2], v % 2, self.dim)
            scores.append(t.select(visible, score, t.const(MASKED, _F)))
        largest = t.largest(t.maximum(t.maximum(*scores[:2]), t.maximum(*scores[2:])))
        before = t.load(state, FLOAT)
        after = t.maximum(before, largest)
        weights = [t.exp2(score - t.splat(after, 16)) for score in scores]
        correction = t.exp2(t.splat(before - after, 16))
        added = (weights[0] + weights[1]) + (weights[2] + weights[3])
        t.store(state, t.fma(t.load(state, _F, 64), correction, added), 64)
        t.store(state, after)
        t.store(state, t.extract(correction, 0), 4)
        for v, weight in enumerate(weights):
            value = t.to_bf16(weight) if has_bf16_dot(t.target, self.spec.kv) else weight
            if self.spec.kv == "int8":
                values_at = t.at(page_at[v // 2], values_offset(self.dim, "int8"))
                value = value * load_scales(t, values_at, v % 2, self.dim)
            t.store(self.weights, value, self.size * (SUBCHUNK * m + 16 * v))

    def _add_values(self, page_at: list[Value], following_at: list[Value], state: Value, count: int) -> None:
        t, lanes = self.t, self.t.target.lanes
        num_vectors = self.dim // lanes
        for start in range(0, num_vectors, self.block):
            chosen = range(start, min(start + self.block, num_vectors))
            cells = []
            for m in range(count):
                at = t.at(state, m * self.state)
                correction = t.broadcast(at, lanes, 4)
                cells.append(
                    [t.cell(t.load(at, Type("f32", lanes), 128 + 4 * lanes * v) * correction) for v in chosen]
                )
            offset = values_offset(self.dim, self.spec.kv)
            for half, page in enumerate(page_at):
                weights = half * PAGE_TOKENS * self.size
                with t.loop(0, PAGE_TOKENS // self.per_lane) as step:
                    at, ahead = (t.at(p, step * (4 * self.dim)) for p in (page, following_at[half]))
                    words = [t.load(at, Type("i32", lanes), offset + 4 * lanes * v) for v in chosen]
                    for line in range(4 * lanes * start, 4 * lanes * (start + len(chosen)), 64):
                        t.prefetch(ahead, offset + line)
                    weight = t.at(self.weights, step * (self.per_lane * self.size) + weights)
                    rows_at = [t.at(weight, m * SUBCHUNK * self.size) for m in range(count)]
                    accumulate(t, self.spec.kv, cells, words, rows_at)
            for m, row in enumerate(cells):
                for v, cell in zip(chosen, row, strict=True):
                    t.store(t.at(state, m * self.state), cell.get(), 128 + 4 * lanes * v)

    def _finish(self, field: list[Value], rows: Value) -> None:
        """Write the answer, or the state of the chunk for Combine."""
        t, group = self.t, self.spec.group
        with t.when(t.compare("slt", field[SLOT], 0)), t.loop(0, rows) as row:
            token, head = field[FIRST_TOKEN] + row // group, field[KV_HEAD] * group + row % group
            out = t.at(t.arg(OUT, PTR), token * t.arg(OUT_ROW_BYTES) + head * (4 * self.dim))
            normalise(t, t.at(self.total, row * self.state), out, self.dim)
        with t.when(t.compare("sge", field[SLOT], 0)):
            out = t.at(t.arg(PARTIALS, PTR), field[SLOT] * self.state)
            with t.loop(0, rows * (self.state // 64)) as word:
                t.store(out, t.load(self.total, _F, word * 64), word * 64)


def merge(t: Tile, total: Value, partial: Value, dim: int) -> None:
    """Add the sums of one chunk to what earlier chunks gave."""
    a, b = t.load(total, FLOAT), t.load(partial, FLOAT)
    both = t.maximum(a, b)
    keep, add = t.exp2(t.splat(a - both, 16)), t.exp2(t.splat(b - both, 16))
    t.store(total, both)
    for offset in range(64, state_bytes(dim), 64):
        value = t.load(total, _F, offset) * keep
        t.store(total, t.fma(t.load(partial, _F, offset), add, value), offset)


def normalise(t: Tile, state: Value, out: Value, dim: int) -> None:
    """Weighted values over the sum of weights."""
    total = t.splat(t.const(1.0, FLOAT) / t.sum(t.load(state, _F, 64)), 16)
    for offset in range(0, 4 * dim, 64):
        t.store(out, t.load(state, _F, 128 + offset) * total, offset)
