"""Feed integer weights with integer activations."""

from __future__ import annotations

from ..ir import Graph, Node, Tensor
from ..ops import FusedLinear, GatedLinear, Linear, Quantise
from .rewrite import Rewriter

QUANTISE = Quantise()


def quantise_activations(graph: Graph) -> Graph:
    """Put one quantise before all the contractions that read the same x with quantised weights.

       linear(x, w4); gated_linear(x, g4, u4)
    -> q = quantise(x); linear(q, w4); gated_linear(q, g4, u4)
    """
    readers = {i for i, node in enumerate(graph.nodes) if _wants_codes(graph, node)}
    if not readers:
        return graph
    codes: dict[int, int] = {}  # new id of x -> new id of its quantise
    rewriter = Rewriter(graph)
    for i, node in enumerate(graph.nodes):
        if i not in readers:
            rewriter.copy(i)
            continue
        x = rewriter.place(node.inputs[0])
        if x not in codes:
            source = graph.nodes[node.inputs[0]]
            codes[x] = rewriter.add(Node(QUANTISE, (x,), Tensor(source.output.shape, "q8"), f"{source.name}.q8"))
        inputs = (codes[x], *(rewriter.place(j) for j in node.inputs[1:]))
        rewriter.put(i, Node(node.op, inputs, node.output, node.name))
    return rewriter.graph()


def _wants_codes(graph: Graph, node: Node) -> bool:
    if not isinstance(node.op, Linear | FusedLinear | GatedLinear):
        return False
    return graph.nodes[node.inputs[1]].output.is_quantised and graph.nodes[node.inputs[0]].output.dtype == "f32"
