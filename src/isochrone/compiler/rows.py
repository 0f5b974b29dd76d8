"""Row kernels: normalise and quantise activations, look embeddings up.

A work item is one row, or one panel where rows are quantised: the rows of a panel share cache lines, and two
workers writing one line would pull it back and forth (batch 16 of a 0.6B shape: 23 microseconds a region, not 8).

They work on 16 virtual lanes on every target, so a row's bits are the same everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..graph.formats import BLOCK, COLUMNS, FORMATS, Plain, Quantised
from .decode import GROUPS, Super, blocks_per_super, load_block, load_super, num_halves
from .ir import FLOAT, I32, PTR, Kernel, Type
from .isa import Target
from .matmul import panel_block_bytes
from .tile import Tile, Value

LANES = 16
_F = Type("f32", LANES)
_I = Type("i32", LANES)

# Words of the argument table of Rows.
X, X_ROW_BYTES, NUM_BLOCKS, OUT, OUT_STRIDE, WEIGHT, EPS, INVERSE_K, INDEX = range(9)


@dataclass(frozen=True, slots=True)
class Rows:
    """y = row, optionally normalised, optionally quantised into activation panels (layout: matmul.py).

    panel   rows of a panel and of a work item
    gather  word of the step's table that holds the address of row indices (i32), or None for rows in order
    zero    the panel's code sums are multiplied by -zero, as the one weight format that reads them wants it;
            0 leaves them as they are
    """

    norm: bool
    quantise: bool
    panel: int
    gather: int | None
    extent: int
    zero: int = 0

    @property
    def name(self) -> str:
        parts = ["norm" * self.norm, f"quantise_p{self.panel}" * self.quantise, f"z{self.zero}" * (self.zero > 0)]
        gather = "" if self.gather is None else f"_gather{self.gather}"
        return "_".join(["rows", *filter(None, parts)]) + f"{gather}_e{self.extent}"

    def build(self, target: Target) -> Kernel:
        t = Tile(self.name, target)
        # Read once, here: after a store, LLVM would have to read the table again.
        x, out, weight = t.arg(X, PTR), t.arg(OUT, PTR), t.arg(WEIGHT, PTR)
        num_rows = t.extent(self.extent)
        with t.items() as item:
            first = item * self.panel
            with t.loop(first, t.minimum(first + self.panel, num_rows)) as row:
                self._row(t, row, x, weight, t.at(out, item * t.arg(OUT_STRIDE)))
        return t.finish()

    def _row(self, t: Tile, row: Value, x: Value, weight: Value, out: Value) -> None:
        source = row
        if self.gather is not None:
            index = t.load(t.extent(self.gather, PTR), I32, row * 4)
            source = t.cast("sext", index, "i64")
        x_row = t.at(x, source * t.arg(X_ROW_BYTES))
        factor = _norm_factor(t, x_row) if self.norm else None
        if self.quantise:
            self._quantise(t, x_row, factor, weight, out, row % self.panel)
        else:
            self._copy(t, x_row, factor, weight, out)

    def _load(self, t: Tile, x_row: Value, factor: Value | None, weight: Value, offset: Value) -> Value:
        x = t.load(x_row, _F, offset)
        return x if factor is None else x * factor * t.load(weight, _F, offset)

    def _copy(self, t: Tile, x_row: Value, factor: Value | None, weight: Value, out: Value) -> None:
        with t.loop(0, t.arg(NUM_BLOCKS)) as b:
            for part in range(BLOCK // LANES):
                offset = b * (4 * BLOCK) + 4 * LANES * part
                t.store(out, self._load(t, x_row, factor, weight, offset), offset)

    def _quantise(
        self, t: Tile, x_row: Value, factor: Value | None, weight: Value, panel: Value, row: Value
    ) -> None:  # fmt: skip
        codes_at = t.at(panel, row * BLOCK)
        values_at = t.at(panel, row * 4 + BLOCK * self.panel)
        step = panel_block_bytes(self.panel)
        with t.loop(0, t.arg(NUM_BLOCKS)) as b:
            offset = b * (4 * BLOCK)
            halves = [self._load(t, x_row, factor, weight, offset + 4 * LANES * part) for part in range(2)]
            _quantise_block(t, halves, t.at(codes_at, b * step), t.at(values_at, b * step), self)


def _norm_factor(t: Tile, x_row: Value) -> Value:
    """1 / sqrt(mean(x * x) + eps) in every lane."""
    total = t.cell(t.zeros(_F))
    with t.loop(0, t.arg(NUM_BLOCKS)) as b:
        for part in range(BLOCK // LANES):
            x = t.load(x_row, _F, b * (4 * BLOCK) + 4 * LANES * part)
            total.set(t.fma(x, x, total.get()))
    mean = t.sum(total.get()) * t.arg(INVERSE_K, FLOAT)
    return t.splat(t.const(1.0, FLOAT) / t.sqrt(mean + t.arg(EPS, FLOAT)), LANES)


def _quantise_block(t: Tile, halves: list[Value], codes_at: Value, values_at: Value, spec: Rows) -> None:
    """32 numbers to symmetric int8 with their scale and sums.

    The largest magnitude is found on the bits, where NaN and infinity are the largest of all: a number that is
    not finite makes the scale not finite, and so reaches the logits, where it is reported.
    """
    bits = [t.bitcast(t.absolute(half), _I) for half in halves]
    largest = t.bitcast(t.largest(t.maximum(*bits)), FLOAT)
    scale = largest * (1.0 / 127.0)
    one, zero = t.const(127.0, FLOAT), t.const(0.0, FLOAT)
    inverse = t.splat(t.select(t.compare("ogt", largest, 0.0), one / largest, zero), LANES)
    code_sums = []
    for part, half in enumerate(halves):
        code = t.cast("fptosi", t.round_even(half * inverse), "i32")
        t.store(codes_at, t.cast("trunc", code, "i8"), LANES * part)
        code_sums.append(t.sum(code))
    whole = code_sums[0] + code_sums[1]
    sums = [scale * t.to_f32(s) for s in (whole, *code_sums)]
    corrections = [s * -spec.zero if spec.zero else s for s in (whole, *code_sums)]
    for word, value in enumerate((scale, sums[0], corrections[0], *sums[1:], *corrections[1:])):
        t.store(values_at, value, 4 * word * spec.panel)


# Words of the argument table of Embed.
TABLE, TABLE_BLOCKS, TABLE_TILE_BYTES, EMBED_OUT, EMBED_ROW_BYTES, EMBED_FACTOR = range(6)


@dataclass(frozen=True, slots=True)
class Embed:
    """The embedding of each token, read from the packed tiles that the head uses too.

    tokens  word of the step's table that holds the address of the token ids (i32)
    """

    format: str
    tokens: int
    extent: int

    @property
    def name(self) -> str:
        return f"embed_{self.format}"

    def build(self, target: Target) -> Kernel:
        t = Tile(self.name, target)
        format = FORMATS[self.format]
        with t.items() as row:
            token = t.cast("sext", t.load(t.extent(self.tokens, PTR), I32, row * 4), "i64")
            tile = t.at(t.arg(TABLE, PTR), (token // COLUMNS) * t.arg(TABLE_TILE_BYTES))
            out = t.at(t.arg(EMBED_OUT, PTR), row * t.arg(EMBED_ROW_BYTES))
            if isinstance(format, Plain):
                _embed_plain(t, format, tile, token % COLUMNS, out)
            else:
                _embed_quantised(t, format, tile, token % COLUMNS, out)
        return t.finish()


def _embed_plain(t: Tile, format: Plain, tile: Value, column: Value, out: Value) -> None:
    size, factor = format.item_bytes, t.arg(EMBED_FACTOR, FLOAT)
    at = t.at(tile, column * size)
    with t.loop(0, t.arg(TABLE_BLOCKS) * BLOCK) as k:
        value = t.to_f32(t.load(at, Type(format.name), k * (COLUMNS * size)))
        t.store(out, value * factor, k * 4)


def _embed_quantised(t: Tile, format: Quantised, tile: Value, column: Value, out: Value) -> None:
    scratch = t.stack(64 * GROUPS + 2 * 2 * 64)
    if format.super_bytes == 0:
        with t.loop(0, t.arg(TABLE_BLOCKS)) as b:
            at = t.at(tile, b * format.block_bytes)
            _embed_block(t, format, at, [None] * num_halves(t), column, t.at(out, b * (4 * BLOCK)), scratch)
        return
    inner = blocks_per_super()
    super_bytes = format.super_bytes + inner * format.block_bytes
    with t.loop(0, t.arg(TABLE_BLOCKS) // inner) as s:
        at = t.at(tile, s * super_bytes)
        sups: list[Super | None] = [load_super(t, format, at, half) for half in range(num_halves(t))]
        with t.loop(0, inner) as b:
            block_at = t.at(at, b * format.block_bytes + format.super_bytes)
            row_at = t.at(out, (s * inner + b) * (4 * BLOCK))
            _embed_block(t, format, block_at, sups, column, row_at, scratch)


def _embed_block(
    t: Tile, format: Quantised, at: Value, sups: list[Super | None], column: Value, out: Value, scratch: Value
) -> None:
    """Decode the block of all 16 columns to the stack, then keep one: simpler than a decoder of single columns."""
    lanes, has_minimum, zero = t.target.lanes, False, 0
    for half, sup in enumerate(sups):
        block = load_block(t, format, at, half, sup)
        zero, has_minimum = block.zero, block.minima is not None
        for group in block.order:
            t.store(scratch, block.codes(group), 64 * group + 4 * lanes * half)
        for sub, values in enumerate(zip(block.scales, block.minima or block.scales, strict=True)):
            for kind, value in enumerate(values):
                t.store(scratch, value, 64 * GROUPS + 128 * kind + 64 * sub + 4 * lanes * half)
    mine = t.at(scratch, column * 4)
    factor = t.splat(t.arg(EMBED_FACTOR, FLOAT), 4)
    for group in range(GROUPS):
        sub = group * (BLOCK // format.sub) // GROUPS
        code = t.cast("zext", t.load(mine, Type("i8", 4), 64 * group), "i32") - zero
        scale = t.broadcast(mine, 4, 64 * GROUPS + 64 * sub)
        value = t.to_f32(code) * scale
        if has_minimum:
            value = t.fma(t.to_f32(code), scale, t.broadcast(mine, 4, 64 * GROUPS + 128 + 64 * sub))
        t.store(out, value * factor, 16 * group)
