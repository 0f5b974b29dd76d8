"""Cut the attention of a step into work items, and merge what several items gave for one row.

A sequence with few new tokens (decode) is cut by chunks of positions, so that one long sequence feeds every worker;
a sequence with many (prefill) is cut by tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import attention
from .attention import ITEM_BYTES, item_tokens, merge, normalise, state_bytes
from .ir import FLOAT, I32, PTR, Kernel, Type
from .isa import Target
from .table import CHUNK, Word
from .tile import Cell, Tile, Value

# Words of the argument table of AttentionItems.
NUM_KV_HEADS = 0
# Fields (i32) of a combine item.
ROW_TOKEN, ROW_HEAD, NUM_TOKENS, FIRST_SLOT, NUM_CHUNKS = range(5)


@dataclass(frozen=True, slots=True)
class AttentionItems:
    """Fill the tables of attention and combine items, and their counts in the step's table."""

    group: int

    @property
    def name(self) -> str:
        return f"attention_items_g{self.group}"

    def build(self, target: Target) -> Kernel:
        t = Tile(self.name, target)
        zero = t.const(0)
        counts = [t.cell(zero) for _ in range(3)]  # attention items, combine items, rows of partial sums
        with t.items(), t.loop(0, t.extent(Word.SEQUENCES)) as sequence:
            self._sequence(t, sequence, *counts)
        t.store(t.ctx, counts[0].get(), 8 * Word.ATTEND_ITEMS)
        t.store(t.ctx, counts[1].get(), 8 * Word.COMBINE_ITEMS)
        return t.finish()

    def _sequence(self, t: Tile, sequence: Value, items: Cell, combines: Cell, partial_rows: Cell) -> None:
        starts = t.extent(Word.STARTS, PTR)
        first = t.cast("sext", t.load(starts, I32, sequence * 4), "i64")
        tokens = t.cast("sext", t.load(starts, I32, sequence * 4 + 4), "i64") - first
        position = t.cast("sext", t.load(t.extent(Word.POSITIONS, PTR), I32, first * 4), "i64")
        chunks = (position + tokens + (CHUNK - 1)) // CHUNK
        kv_heads = t.arg(NUM_KV_HEADS)
        needed = partial_rows.get() + chunks * tokens * self.group * kv_heads
        split = t.compare("sle", tokens, item_tokens(self.group)) & t.compare("sgt", chunks, 1)
        split = split & t.compare("sle", needed, t.extent(Word.PARTIAL_ROWS_MAX))
        with t.when(split):
            rows = tokens * self.group
            slot = partial_rows.get()
            with t.loop(0, kv_heads) as head:
                _append(t, Word.COMBINES, combines, (first, head, tokens, slot + head * chunks * rows, chunks))
            # Heads of one page lie side by side in memory, so workers that take neighbouring items share its rows.
            with t.loop(0, chunks) as chunk, t.loop(0, kv_heads) as head:
                here = slot + (head * chunks + chunk) * rows
                _append(t, Word.ITEMS, items, (sequence, head, first, tokens, position, chunk, chunk + 1, here))
            partial_rows.set(slot + kv_heads * chunks * rows)
        with t.when(split ^ t.const(1, split.type)):
            self._by_tokens(t, sequence, first, tokens, position, items)

    def _by_tokens(self, t: Tile, sequence: Value, first: Value, tokens: Value, position: Value, items: Cell) -> None:
        size = item_tokens(self.group)
        with t.loop(0, tokens, size) as done:
            count = t.minimum(tokens - done, size)
            end = (position + done + count + (CHUNK - 1)) // CHUNK
            with t.loop(0, t.arg(NUM_KV_HEADS)) as head:
                fields = (sequence, head, first + done, count, position + done, t.const(0), end, t.const(-1))
                _append(t, Word.ITEMS, items, fields)


def _append(t: Tile, table: Word, count: Cell, fields: tuple[Value, ...]) -> None:
    at = t.at(t.extent(table, PTR), count.get() * ITEM_BYTES)
    for index, value in enumerate(fields):
        t.store(at, t.cast("trunc", value, "i32"), 4 * index)
    count.set(count.get() + 1)


@dataclass(frozen=True, slots=True)
class Combine:
    """Merge the chunks of rows that several items shared (argument table: attention.py)."""

    head_dim: int
    group: int

    @property
    def name(self) -> str:
        return f"combine_d{self.head_dim}_g{self.group}"

    def build(self, target: Target) -> Kernel:
        t = Tile(self.name, target)
        size, dim = state_bytes(self.head_dim), self.head_dim
        total = t.stack(size)
        with t.items() as index:
            item = t.at(t.extent(Word.COMBINES, PTR), index * ITEM_BYTES)
            token, head, tokens, slot, chunks = (
                t.cast("sext", t.load(item, I32, 4 * f), "i64") for f in range(5)
            )
            rows = tokens * self.group
            with t.loop(0, rows) as row:
                t.store(total, t.const(attention.LOWEST, FLOAT))
                for offset in range(64, size, 64):
                    t.store(total, t.zeros(Type("f32", 16)), offset)
                partials = t.at(t.arg(attention.PARTIALS, PTR), (slot + row) * size)
                with t.loop(0, chunks) as chunk:
                    merge(t, total, t.at(partials, chunk * rows * size), dim)
                row_bytes = t.arg(attention.OUT_ROW_BYTES)
                column = (head * self.group + row % self.group) * (4 * dim)
                out = t.at(t.arg(attention.OUT, PTR), (token + row // self.group) * row_bytes + column)
                normalise(t, total, out, dim)
        return t.finish()
