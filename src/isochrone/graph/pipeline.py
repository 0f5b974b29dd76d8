"""The pipeline from a model's graph to the lowered one: one tuple."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from .ir import Graph
from .passes import drop_no_ops, fuse_gate_up, fuse_qkv, fuse_residual, quantise_activations

Pass = Callable[[Graph], Graph]

PIPELINE: tuple[Pass, ...] = (drop_no_ops, fuse_gate_up, fuse_qkv, fuse_residual, quantise_activations)
"""In this order: fuse_qkv relies on fuse_gate_up, quantise_activations sees the contractions in their last form."""


def lower(graph: Graph) -> Graph:
    """Run the whole pipeline."""
    for run in PIPELINE:
        graph = run(graph)
    return Graph(graph.nodes, graph.outputs, "lowered")


def stages(graph: Graph) -> Iterator[tuple[str, Graph]]:
    """The graph as it comes, then after each pass, by the pass's name."""
    yield "model", graph
    for run in PIPELINE:
        graph = run(graph)
        yield run.__name__, graph
