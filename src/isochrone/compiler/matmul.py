"""The contraction anchor: activations times packed weights, with what fusion attached to its output.

One kernel takes rows (tokens) in panels of P and columns in tiles of 16.  Every sum over blocks has one order
whatever the panel, the batch or the instruction set, so a row's result never depends on its neighbours:

    y[m, n] = sum over blocks b:  fma(float(dot(b)), scale[n, b] * a_scale[m, b], .)  then  fma(minimum, a_sum, .)

Activation panel of P rows (written by rows.py), per block of 32 k, 64 * P bytes:
    codes i8 [P, 32] | scale f32 [P] | sum f32 [P] | code sum i32 [P]
    | sum of each half f32 [2, P] | code sum of each half i32 [2, P] | padding
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..graph.activations import Activation
from ..graph.formats import BLOCK, COLUMNS, FORMATS, Quantised
from .activation import activate
from .decode import GROUPS, Block, Super, blocks_per_super, load_block, load_super, num_halves
from .ir import PTR, Kernel, Type
from .isa import Codes, Target, dot_rows
from .tile import Cell, Tile, Value

Epilogue = Literal["store", "add", "gated_silu", "gated_gelu_tanh"]

# Words of the argument table.
WEIGHTS, NUM_BLOCKS, TILE_BYTES, ACTIVATIONS, PANEL_BYTES, OUT, OUT_ROW_BYTES, BIAS, NUM_TILES, ITEM_ROWS = range(10)

_LINE = 64
_AHEAD, _AHEAD_PLAIN = 8192, 2048
"""How far ahead weights are asked for, into the second-level cache; the second for a few rows of 8-bit codes.

The processor's own prefetchers lose the stream where codes are unpacked or eight rows make it flow slowly: 16 rows of
a q8_0 product ran at 194 GOP/s a core without this and at 351 with it, one row of q6_k read 21 GB/s and 31.  Packed
codes suffer from distances within a page and a half, by up to a third; plain bytes gain a twentieth from a short one.
"""


@dataclass(frozen=True, slots=True)
class Matmul:
    """Which matmul kernel: y = x W^T and what happens to y.

    panel     rows per activation panel
    epilogue  store y; add y to what is there; or, with gate and up tiles alternating, store act(gate) * up
    extent    word of the step's table that holds the number of rows
    zero      what the panel's code sums were multiplied by, negated (see Rows): 0 or the format's own zero
    """

    format: str
    panel: int
    epilogue: Epilogue
    bias: bool
    extent: int
    zero: int = 0

    @property
    def name(self) -> str:
        marks = "_bias" * self.bias + f"_z{self.zero}" * (self.zero > 0)
        return f"matmul_{self.format}_p{self.panel}_{self.epilogue}{marks}_e{self.extent}"

    def build(self, target: Target) -> Kernel:
        t = Tile(self.name, target)
        _Builder(t, self).emit()
        return t.finish()


def panel_rows(target: Target, num_rows: int) -> int:
    """Rows per panel: single rows are packed alone, so that a decode step reads no padding."""
    return 1 if num_rows == 1 else target.rows


def panel_block_bytes(panel: int) -> int:
    return 64 * panel


class _Builder:
    """Emits one matmul kernel."""

    def __init__(self, t: Tile, spec: Matmul) -> None:
        self.t, self.spec = t, spec
        format = FORMATS[spec.format]
        assert isinstance(format, Quantised)
        self.format = format
        self.lanes = t.target.lanes
        self.num_blocks, self.tile_bytes = t.arg(NUM_BLOCKS), t.arg(TILE_BYTES)
        self.weights, self.activations = t.arg(WEIGHTS, PTR), t.arg(ACTIVATIONS, PTR)
        self.panel_bytes, self.out, self.out_row_bytes = t.arg(PANEL_BYTES), t.arg(OUT, PTR), t.arg(OUT_ROW_BYTES)
        self.bias = t.arg(BIAS, PTR)
        self.num_rows = t.extent(spec.extent)
        self.vector = Type("f32", self.lanes)

    def emit(self) -> None:
        t, spec = self.t, self.spec
        item_rows = t.arg(ITEM_ROWS)
        groups = (self.num_rows + item_rows - 1) // item_rows
        with t.items() as item:
            tile, group = item // groups, item % groups
            first = group * item_rows
            last = t.minimum(first + item_rows, self.num_rows)
            if spec.panel == 1:
                self._rows(tile, self.activations, first, 0, 1)
            else:
                with t.loop(first, last, spec.panel) as row:
                    self._panel(tile, row, last - row)

    def _panel(self, tile: Value, row: Value, left: Value) -> None:
        """A whole panel at once, or what is left of it in tiles of 4, 2 and 1 rows."""
        t, panel = self.t, self.spec.panel
        base = t.at(self.activations, (row // panel) * self.panel_bytes)
        with t.when(t.compare("sge", left, panel)):
            self._rows(tile, base, row, 0, panel)
        size = panel // 2
        while size:
            with t.when(t.compare("slt", left, panel)), t.when(t.compare("ne", left & size, 0)):
                done = left & (panel - 2 * size)
                self._rows(tile, base, row + done, done, size)
            size //= 2

    def _rows(self, tile: Value, base: Value, row: Value, row_in_panel: Value | int, count: int) -> None:
        """`count` rows of one tile (two for a gated one)."""
        t = self.t
        codes = t.at(base, row_in_panel * BLOCK)
        values = t.at(base, (row_in_panel * 4) + BLOCK * self.spec.panel)
        halves = num_halves(t)
        # Few rows: both halves in one pass, so that each line of weights is read once.
        together = [tuple(range(halves))] if count <= 2 else [(half,) for half in range(halves)]
        for part in together:
            if self.spec.epilogue in ("gated_silu", "gated_gelu_tanh"):
                pair = [self._biased(tile * 2 + which, codes, values, count, part) for which in range(2)]
                sums = gate(t, self.spec.epilogue, *pair)
            else:
                sums = self._biased(tile, codes, values, count, part)
            self._finish(tile, row, part, sums)

    def _biased(
        self, tile: Value, codes: Value, values: Value, count: int, part: tuple[int, ...]
    ) -> list[list[Value]]:
        """The sums of one tile, plus its bias."""
        t = self.t
        sums = self._contract(t.at(self.weights, tile * self.tile_bytes), codes, values, count, part)
        if not self.spec.bias:
            return sums
        biased = []
        for half, row in zip(part, sums, strict=True):
            bias = t.load(t.at(self.bias, tile * (4 * COLUMNS) + 4 * self.lanes * half), self.vector)
            biased.append([value + bias for value in row])
        return biased

    def _finish(self, tile: Value, row: Value, part: tuple[int, ...], sums: list[list[Value]]) -> None:
        t = self.t
        for half, values in zip(part, sums, strict=True):
            column = tile * (4 * COLUMNS) + 4 * self.lanes * half
            for m, value in enumerate(values):
                address = t.at(t.at(self.out, (row + m) * self.out_row_bytes), column)
                if self.spec.epilogue == "add":
                    value = value + t.load(address, self.vector)
                t.store(address, value)

    # --- the inner loop -------------------------------------------------------------------------------------------

    def _contract(
        self, weights: Value, codes: Value, values: Value, count: int, part: tuple[int, ...]
    ) -> list[list[Value]]:
        """Sums of `count` rows for each half in `part`."""
        t, format = self.t, self.format
        sums = [self._sums(count) for _ in part]
        step = panel_block_bytes(self.spec.panel)
        if format.super_bytes == 0:
            with t.loop(0, self.num_blocks) as b:
                at = t.at(weights, b * format.block_bytes)
                self._prefetch(at, format.block_bytes, count, part)
                self._block(at, t.at(codes, b * step), t.at(values, b * step), part, [None] * len(part), sums)
        else:
            inner = blocks_per_super()
            super_bytes = format.super_bytes + inner * format.block_bytes
            with t.loop(0, self.num_blocks // inner) as s:
                at = t.at(weights, s * super_bytes)
                self._prefetch(at, format.super_bytes, count, part)
                sups = [load_super(t, format, at, half) for half in part]
                blocks_at = t.at(at, format.super_bytes)
                with t.loop(0, inner) as b:
                    offset = (s * inner + b) * step
                    block_at = t.at(blocks_at, b * format.block_bytes)
                    self._prefetch(block_at, format.block_bytes, count, part)
                    self._block(block_at, t.at(codes, offset), t.at(values, offset), part, list(sups), sums)
        return [half.values() for half in sums]

    def _sums(self, count: int) -> _Sums:
        # Sixteen registers hold eight decoded groups and one row's chain, or the sums of four rows and nothing else.
        in_memory = self.t.target.registers < 32 and count > 2
        return _SumsInMemory(self.t, self.vector, count) if in_memory else _SumsInRegisters(self.t, self.vector, count)

    def _prefetch(self, at: Value, num_bytes: int, count: int, part: tuple[int, ...]) -> None:
        is_plain = count <= 2 and self.format.bits == 8
        if 0 not in part or (is_plain and self.lanes < COLUMNS):
            return  # asked for already, or read by halves, which a short distance slows by a third
        ahead = _AHEAD_PLAIN if is_plain else _AHEAD
        for line in range(0, num_bytes, _LINE):
            self.t.prefetch(at, ahead + line)

    def _block(
        self, at: Value, codes: Value, values: Value, part: tuple[int, ...], sups: list[Super | None],
        sums: list[_Sums],
    ) -> None:  # fmt: skip
        for half, sup, half_sums in zip(part, sups, sums, strict=True):
            block = load_block(self.t, self.format, at, half, sup)
            for sub in range(len(block.scales)):
                self._sub_block(block, sub, codes, values, half_sums)

    def _sub_block(self, block: Block, sub: int, codes: Value, values: Value, sums: _Sums) -> None:
        subs = len(block.scales)
        first, last = sub * GROUPS // subs, (sub + 1) * GROUPS // subs
        groups = [group for group in block.order if first <= group < last]
        if isinstance(sums, _SumsInRegisters):
            self._add_dots(block, sub, block.codes, groups, codes, values, sums.cells)
            return
        decoded = {group: block.codes(group) for group in groups}
        # One counter addresses all: x86 multiplies an index by 8 for nothing, and codes and sums lie 8 x 4 apart.
        with self.t.loop(0, 4 * sums.count, 4) as m4:
            cell = sums.open(m4)
            codes_at, values_at = self.t.at(codes, m4 * (BLOCK // 4)), self.t.at(values, m4)
            self._add_dots(block, sub, decoded.__getitem__, groups, codes_at, values_at, [cell])
            sums.close(m4, cell)

    def _add_dots(
        self, block: Block, sub: int, decode: Codes, groups: list[int], codes: Value, values: Value, cells: list[Cell]
    ) -> None:
        """Add one sub-block to the sums of some rows."""
        t, panel, subs = self.t, self.spec.panel, len(block.scales)
        sum_word, code_sum_word = (1, 2) if subs == 1 else (3 + sub, 5 + sub)
        starts = [self._start(block.zero, values, code_sum_word, m) for m in range(len(cells))]
        totals = dot_rows(
            t, decode, lambda m, g: t.broadcast(codes, self.lanes, BLOCK * m + 4 * g, "i32"), groups, starts
        )
        for m, (cell, total) in enumerate(zip(cells, totals, strict=True)):
            scale = block.scales[sub] * t.broadcast(values, self.lanes, 4 * m)
            value = t.fma(t.to_f32(total), scale, cell.get())
            if block.minima is not None:
                value = t.fma(block.minima[sub], t.broadcast(values, self.lanes, 4 * (sum_word * panel + m)), value)
            cell.set(value)

    def _start(self, zero: int, values: Value, word: int, m: int) -> Value | None:
        """What corrects the zero point: -zero times the sum of the row's codes."""
        if not zero:
            return None
        assert self.spec.zero in (0, zero), f"{self.spec.name}: the panel was made for another format"
        code_sum = self.t.broadcast(values, self.lanes, 4 * (word * self.spec.panel + m), "i32")
        return code_sum if self.spec.zero else code_sum * -zero



class _SumsInRegisters:
    """The f32 sums of a tile's rows, carried through the loop over blocks."""

    def __init__(self, t: Tile, vector: Type, count: int) -> None:
        self.cells = [t.cell(t.zeros(vector)) for _ in range(count)]

    def values(self) -> list[Value]:
        return [cell.get() for cell in self.cells]


class _SumsInMemory:
    """The same sums on the stack, where the loop over rows is a real one: they live in the first-level cache."""

    def __init__(self, t: Tile, vector: Type, count: int) -> None:
        self.t, self.vector, self.count = t, vector, count
        self.at = t.stack(vector.num_bytes * count)
        for m in range(count):
            t.store(self.at, t.zeros(vector), vector.num_bytes * m)

    def open(self, row4: Value) -> Cell:
        """The sum of row row4 / 4 as a cell."""
        return self.t.cell(self.t.load(self.at, self.vector, row4 * (self.vector.num_bytes // 4)))

    def close(self, row4: Value, cell: Cell) -> None:
        """Put it back."""
        self.t.store(self.at, cell.get(), row4 * (self.vector.num_bytes // 4))

    def values(self) -> list[Value]:
        return [self.t.load(self.at, self.vector, self.vector.num_bytes * m) for m in range(self.count)]


_Sums = _SumsInRegisters | _SumsInMemory

def gate(t: Tile, epilogue: Epilogue, gates: list[list[Value]], ups: list[list[Value]]) -> list[list[Value]]:
    """act(gate) * up, element by element."""
    act: Activation = "silu" if epilogue == "gated_silu" else "gelu_tanh"
    return [[activate(t, g, act) * u for g, u in zip(gs, us, strict=True)] for gs, us in zip(gates, ups, strict=True)]
