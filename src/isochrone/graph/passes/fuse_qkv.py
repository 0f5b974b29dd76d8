"""One reading of the activations for all linears that share them."""

from __future__ import annotations

from ..ir import Graph, Node, Tensor
from ..ops import FusedLinear, Linear, Slice
from .rewrite import Rewriter


def fuse_qkv(graph: Graph) -> Graph:
    """Lay the weights of linears that read the same x side by side; each keeps its own format.

        q = linear(x, wq); k = linear(x, wk); v = linear(x, wv)
     -> y = fused_linear(x, wq, wk, wv); q, k, v = slices of y

    After fuse_gate_up: expects gated pairs to be one node already, or it would take their halves.
    """
    groups = _groups(graph)
    if not groups:
        return graph
    first = {group[0]: group for group in groups}
    rest = {i for group in groups for i in group[1:]}
    rewriter = Rewriter(graph)
    for i in range(len(graph.nodes)):
        if i in first:
            _fuse(graph, first[i], rewriter)
        elif i not in rest:
            rewriter.copy(i)
    return rewriter.graph()


def _groups(graph: Graph) -> list[list[int]]:
    groups: dict[tuple[int, bool, bool], list[int]] = {}
    for i, node in enumerate(graph.nodes):
        if isinstance(node.op, Linear) and not node.op.residual:
            # An f32 weight reads x, a quantised one its codes: they share no kernel.
            is_quantised = graph.nodes[node.inputs[1]].output.is_quantised
            groups.setdefault((node.inputs[0], node.op.bias, is_quantised), []).append(i)
    return [group for group in groups.values() if len(group) > 1]


def _fuse(graph: Graph, group: list[int], rewriter: Rewriter) -> None:
    members = [graph.nodes[i] for i in group]
    splits = tuple([node.output.width for node in members])
    op = FusedLinear(splits, any(node.op.bias for node in members if isinstance(node.op, Linear)))
    old = [
        members[0].inputs[0],
        *(i for n in members for i in n.inputs[1:2]),
        *(i for n in members for i in n.inputs[2:]),
    ]
    inputs = tuple([rewriter.place(i) for i in old])
    output = Tensor((*members[0].output.shape[:-1], sum(splits)))
    fused = rewriter.add(Node(op, inputs, output, _joined(members)))
    start = 0
    for i, node in zip(group, members, strict=True):
        stop = start + node.output.width
        rewriter.put(i, Node(Slice(start, stop), (fused,), node.output, node.name))
        start = stop


def _joined(members: list[Node]) -> str:
    """layers.0.self_attn.q_proj+k_proj+v_proj"""
    return "+".join([members[0].name, *(node.name.rpartition(".")[2] for node in members[1:])])
