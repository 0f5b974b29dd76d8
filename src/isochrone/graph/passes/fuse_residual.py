"""Add the residual where the linear's result still stands in registers."""

from __future__ import annotations

from ..ir import Graph, Node
from ..ops import Add, Linear
from .rewrite import Rewriter


def fuse_residual(graph: Graph) -> Graph:
    """Make the other term of a sum an input of the linear.

       add(x, linear(h, w))
    -> linear(h, w, residual = x)
    """
    consumers = graph.consumers()
    sums: dict[int, int] = {}  # the add -> its linear
    for i, node in enumerate(graph.nodes):
        if isinstance(node.op, Add):
            # The later term comes last in the layer; where both are linears it is the one to carry the other.
            linears = [j for j in sorted(set(node.inputs), reverse=True) if _is_free(graph, j, consumers)]
            if linears and node.inputs[0] != node.inputs[1]:
                sums[i] = linears[0]
    if not sums:
        return graph
    moved = set(sums.values())
    rewriter = Rewriter(graph)
    for i, node in enumerate(graph.nodes):
        if i in sums:
            rewriter.put(i, _fuse(graph, node, sums[i], rewriter))
        elif i not in moved:
            rewriter.copy(i)
    return rewriter.graph()


def _is_free(graph: Graph, i: int, consumers: list[list[int]]) -> bool:
    """Whether node i is a linear that only the sum reads."""
    op = graph.nodes[i].op
    return isinstance(op, Linear) and not op.residual and len(consumers[i]) == 1 and i not in graph.outputs


def _fuse(graph: Graph, node: Node, linear: int, rewriter: Rewriter) -> Node:
    old = graph.nodes[linear]
    assert isinstance(old.op, Linear)
    other = node.inputs[0] if node.inputs[1] == linear else node.inputs[1]
    inputs = tuple([rewriter.place(i) for i in (*old.inputs, other)])
    return Node(Linear(old.op.bias, residual=True), inputs, node.output, old.name)
