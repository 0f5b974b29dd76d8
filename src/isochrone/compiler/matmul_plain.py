"""The contraction of f32 activations with weights kept as f32, f16 or bf16.

y[m, n] sums k in four interleaved chains, then (0 + 1) + (2 + 3): one order for every batch and target.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..graph.formats import BLOCK, COLUMNS, FORMATS, Plain
from .ir import PTR, Kernel, Type
from .isa import Target
from .matmul import ACTIVATIONS as X
from .matmul import BIAS, ITEM_ROWS, NUM_BLOCKS, OUT, OUT_ROW_BYTES, PANEL_BYTES, TILE_BYTES, WEIGHTS, Epilogue, gate
from .tile import Tile, Value

_CHAINS = 4
X_ROW_BYTES = PANEL_BYTES


@dataclass(frozen=True, slots=True)
class MatmulPlain:
    """Like Matmul, with rows of f32 in place of activation panels."""

    format: str
    epilogue: Epilogue
    bias: bool
    extent: int

    @property
    def name(self) -> str:
        return f"matmul_{self.format}_{self.epilogue}{'_bias' if self.bias else ''}_e{self.extent}"

    def build(self, target: Target) -> Kernel:
        t = Tile(self.name, target)
        num_rows, item_rows = t.extent(self.extent), t.arg(ITEM_ROWS)
        groups = (num_rows + item_rows - 1) // item_rows
        block = 4 if target.registers >= 32 else 2
        with t.items() as item:
            tile, first = item // groups, (item % groups) * item_rows
            last = t.minimum(first + item_rows, num_rows)
            whole = first + ((last - first) // block) * block
            with t.loop(first, whole, block) as row:
                self._rows(t, tile, row, block)
            with t.loop(whole, last) as row:
                self._rows(t, tile, row, 1)
        return t.finish()

    def _rows(self, t: Tile, tile: Value, row: Value, count: int) -> None:
        lanes, weights = t.target.lanes, t.arg(WEIGHTS, PTR)
        xs = [t.at(t.arg(X, PTR), (row + m) * t.arg(X_ROW_BYTES)) for m in range(count)]
        for half in range(COLUMNS // lanes):
            if self.epilogue in ("gated_silu", "gated_gelu_tanh"):
                pair = [self._biased(t, weights, tile * 2 + which, xs, half) for which in range(2)]
                sums = gate(t, self.epilogue, [pair[0]], [pair[1]])[0]
            else:
                sums = self._biased(t, weights, tile, xs, half)
            column = tile * (4 * COLUMNS) + 4 * lanes * half
            for m, value in enumerate(sums):
                address = t.at(t.at(t.arg(OUT, PTR), (row + m) * t.arg(OUT_ROW_BYTES)), column)
                if self.epilogue == "add":
                    value = value + t.load(address, value.type)
                t.store(address, value)

    def _biased(self, t: Tile, weights: Value, tile: Value, xs: list[Value], half: int) -> list[Value]:
        sums = self._contract(t, t.at(weights, tile * t.arg(TILE_BYTES)), xs, half)
        if not self.bias:
            return sums
        bias = t.load(t.at(t.arg(BIAS, PTR), tile * (4 * COLUMNS) + 4 * t.target.lanes * half), sums[0].type)
        return [value + bias for value in sums]

    def _contract(self, t: Tile, weights: Value, xs: list[Value], half: int) -> list[Value]:
        format, lanes = FORMATS[self.format], t.target.lanes
        assert isinstance(format, Plain)
        size = format.item_bytes
        cells = [[t.cell(t.zeros(Type("f32", lanes))) for _ in range(_CHAINS)] for _ in xs]
        with t.loop(0, t.arg(NUM_BLOCKS) * (BLOCK // _CHAINS)) as step:
            at = t.at(weights, step * (_CHAINS * COLUMNS * size))
            for chain in range(_CHAINS):
                weight = t.to_f32(t.load(at, Type(format.name, lanes), (chain * COLUMNS + lanes * half) * size))
                for x, row in zip(xs, cells, strict=True):
                    value = t.broadcast(x, lanes, step * (4 * _CHAINS) + 4 * chain)
                    row[chain].set(t.fma(weight, value, row[chain].get()))
        return [(a.get() + b.get()) + (c.get() + d.get()) for a, b, c, d in cells]
