"""One reading of the activations for both halves of a gated MLP."""

from __future__ import annotations

from ..ir import Graph, Node
from ..ops import Gated, GatedLinear, Linear
from .rewrite import Rewriter


def fuse_gate_up(graph: Graph) -> Graph:
    """Compute gate and up in one contraction, and gate in its epilogue.

       gated(linear(x, gate), linear(x, up); act)
    -> gated_linear(x, gate, up; act)
    """
    consumers = graph.consumers()
    pairs = {i: node.inputs for i, node in enumerate(graph.nodes) if _is_pair(graph, node, consumers)}
    if not pairs:
        return graph
    halves = {half for pair in pairs.values() for half in pair}
    rewriter = Rewriter(graph)
    for i, node in enumerate(graph.nodes):
        if i in pairs:
            rewriter.put(i, _fuse(graph, node, rewriter))
        elif i not in halves:
            rewriter.copy(i)
    return rewriter.graph()


def _is_pair(graph: Graph, node: Node, consumers: list[list[int]]) -> bool:
    if not isinstance(node.op, Gated):
        return False
    gate, up = (graph.nodes[i] for i in node.inputs)
    if not (isinstance(gate.op, Linear) and gate.op == up.op and not gate.op.residual):
        return False  # a residual would have to be added before the activation
    if any(len(consumers[i]) != 1 or i in graph.outputs for i in node.inputs):
        return False  # someone else reads a half, so both must exist
    if graph.nodes[gate.inputs[1]].output != graph.nodes[up.inputs[1]].output:
        return False  # halves of different formats share no kernel; fuse_qkv still reads x once
    return gate.inputs[0] == up.inputs[0]


def _fuse(graph: Graph, node: Node, rewriter: Rewriter) -> Node:
    gate, up = (graph.nodes[i] for i in node.inputs)
    assert isinstance(node.op, Gated) and isinstance(gate.op, Linear)
    old = [*gate.inputs[:2], up.inputs[1], *gate.inputs[2:], *up.inputs[2:]]
    inputs = tuple([rewriter.place(i) for i in old])
    return Node(GatedLinear(node.op.act, gate.op.bias), inputs, node.output, f"{gate.name}+up")
