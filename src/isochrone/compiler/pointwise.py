"""Element-wise kernels for what no anchor took: one work item is one row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..graph.formats import BLOCK
from .activation import activate
from .ir import FLOAT, PTR, Kernel, Type
from .isa import Target
from .tile import Tile, Value

# Words of the argument table.
A, B, OUT, A_ROW_BYTES, B_ROW_BYTES, OUT_ROW_BYTES, NUM_BLOCKS, FACTOR = range(8)

_F = Type("f32", 16)


@dataclass(frozen=True, slots=True)
class Pointwise:
    """out = a + b, a * b, a * factor, act(a), or act(a) * b."""

    op: Literal["copy", "add", "mul", "scale", "silu", "gelu_tanh", "gated_silu", "gated_gelu_tanh"]

    @property
    def name(self) -> str:
        return f"pointwise_{self.op}"

    def build(self, target: Target) -> Kernel:
        t = Tile(self.name, target)
        with t.items() as row, t.loop(0, t.arg(NUM_BLOCKS) * (4 * BLOCK), 64) as column:
            a = t.load(t.at(t.arg(A, PTR), row * t.arg(A_ROW_BYTES)), _F, column)
            out = t.at(t.arg(OUT, PTR), row * t.arg(OUT_ROW_BYTES))
            t.store(out, self._apply(t, a, row, column), column)
        return t.finish()

    def _apply(self, t: Tile, a: Value, row: Value, column: Value) -> Value:
        def b() -> Value:
            return t.load(t.at(t.arg(B, PTR), row * t.arg(B_ROW_BYTES)), _F, column)

        match self.op:
            case "copy":
                return a
            case "add":
                return a + b()
            case "mul":
                return a * b()
            case "scale":
                return a * t.splat(t.arg(FACTOR, FLOAT), 16)
            case "silu" | "gelu_tanh":
                return activate(t, a, self.op)
            case "gated_silu":
                return activate(t, a, "silu") * b()
            case "gated_gelu_tanh":
                return activate(t, a, "gelu_tanh") * b()
