"""What every pass changed: ops, bytes and arithmetic before and after it."""

from __future__ import annotations

from dataclasses import dataclass

from .ir import Extents, Graph, graph_cost
from .ops import Input, Slice, Weight
from .pipeline import stages

_MOVES_NOTHING = (Weight, Input, Slice)


@dataclass(frozen=True, slots=True)
class StageSummary:
    """One line of the table.

    stage             "model", then the name of each pass
    num_ops           ops that do something: leaves and views are not counted
    weight_bytes      packed weights read to decode one token
    activation_bytes  activations and KV cache moved to decode one token
    flops_per_token   arithmetic to decode one token, the head included
    """

    stage: str
    num_ops: int
    weight_bytes: int
    activation_bytes: int
    flops_per_token: int


def summarise(graph: Graph, depth: int = 0) -> tuple[StageSummary, ...]:
    """The model's graph as it comes, then after each pass of the pipeline; `depth` positions are cached."""
    return tuple([summarise_stage(name, stage, depth) for name, stage in stages(graph)])


def summarise_stage(name: str, graph: Graph, depth: int = 0) -> StageSummary:
    """The price of decoding one token."""
    cost = graph_cost(graph, Extents(tokens=1, rows=1, depth=depth))
    num_ops = sum(not isinstance(node.op, _MOVES_NOTHING) for node in graph.nodes)
    return StageSummary(name, num_ops, cost.weight_bytes, cost.activation_bytes, cost.flops)


def format_summary(table: tuple[StageSummary, ...]) -> str:
    """The table as text, units in its head."""
    head = ("after", "ops", "weights MB", "activations kB", "MFLOP/token")
    rows = [
        (
            row.stage,
            str(row.num_ops),
            f"{row.weight_bytes / 1e6:.2f}",
            f"{row.activation_bytes / 1e3:.1f}",
            f"{row.flops_per_token / 1e6:.2f}",
        )
        for row in table
    ]
    widths = [max(len(line[i]) for line in (head, *rows)) for i in range(len(head))]
    return "\n".join(_line(line, widths) for line in (head, *rows))


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    first, *rest = zip(cells, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)])
