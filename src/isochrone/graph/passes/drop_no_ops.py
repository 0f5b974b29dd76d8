"""Remove what changes nothing."""

from __future__ import annotations

from ..ir import Graph, Node
from ..ops import Exchange, Scale, Slice
from .rewrite import Rewriter


def drop_no_ops(graph: Graph) -> Graph:
    """Let the reader of an op that returns its input read the input.

       y = scale(x, 1) | slice(x, 0, width) | exchange(x, world = 1); use(y)
    -> use(x)
    """
    doomed = [_is_no_op(graph, node) for node in graph.nodes]
    if not any(doomed):
        return graph
    rewriter = Rewriter(graph)
    for i, node in enumerate(graph.nodes):
        if doomed[i]:
            rewriter.alias(i, rewriter.place(node.inputs[0]))
        else:
            rewriter.copy(i)
    return rewriter.graph()


def _is_no_op(graph: Graph, node: Node) -> bool:
    match node.op:
        case Scale(factor=1.0) | Exchange(world=1):
            return True
        case Slice():
            return node.output.width == graph.nodes[node.inputs[0]].output.width
        case _:
            return False
