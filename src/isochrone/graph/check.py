"""The verifier: what must hold of every graph, and which ops may stand at each level."""

from __future__ import annotations

from .ir import OPS, Graph, Level, Node
from .ops import Attend, FusedLinear, GatedLinear, Input, Linear, Quantise, Weight

CONTRACTIONS = (Linear, FusedLinear, GatedLinear)
_ONLY_LOWERED = {FusedLinear, GatedLinear, Quantise}
ALLOWED: dict[Level, frozenset[type]] = {
    "model": frozenset(OPS.values()) - _ONLY_LOWERED,
    "fused": frozenset(OPS.values()),
    "lowered": frozenset(OPS.values()),
}
"""Ops that may stand in a graph of each level."""


class GraphError(AssertionError):
    """A graph that breaks its own rules: a mistake in a model or a pass, never in a file."""


def check(graph: Graph, level: Level | None = None) -> None:
    """Raise GraphError unless the graph is well formed and of this level, or else of the one it claims."""
    level = level or graph.level
    if graph.level != level:
        raise GraphError(f"the graph says it is {graph.level}, not {level}")
    seen: set[object] = set()
    for i, node in enumerate(graph.nodes):
        _check_node(graph, i, node, level)
        once = (Attend, node.op.layer) if isinstance(node.op, Attend) else node.op
        if isinstance(node.op, Attend | Weight | Input) and once in seen:
            raise GraphError(f"%{i} {node.name}: {once} stands twice")
        seen.add(once)
    for output in graph.outputs:
        if not 0 <= output < len(graph.nodes):
            raise GraphError(f"output %{output} is not a node")


def _check_node(graph: Graph, i: int, node: Node, level: Level) -> None:
    where = f"%{i} {node.name}"
    if type(node.op) not in ALLOWED[level]:
        raise GraphError(f"{where}: {type(node.op).__name__} may not stand in a {level} graph")
    if any(not 0 <= j < i for j in node.inputs):
        raise GraphError(f"{where} reads {node.inputs}: not all stand before it")
    tensors = graph.input_tensors(node)
    if isinstance(node.op, Weight):
        if node.output.storage != "weight":
            raise GraphError(f"{where}: a weight is stored as {node.output.storage}")
        return
    try:
        output = node.op.shape(*tensors)
    except (AssertionError, TypeError) as error:  # TypeError: too few or too many inputs
        raise GraphError(f"{where}: {error}") from error
    if output != node.output:
        raise GraphError(f"{where} says {node.output}, but its inputs make {output}")
    if (
        level == "lowered"
        and isinstance(node.op, CONTRACTIONS)
        and tensors[0].dtype == "f32"
        and tensors[1].is_quantised
    ):
        raise GraphError(f"{where}: a weight of {tensors[1]} needs quantised activations")
