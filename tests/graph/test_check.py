"""The verifier finds what a wrong model or pass would do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from isochrone.graph import formats
from isochrone.graph.build import Builder
from isochrone.graph.check import GraphError, check
from isochrone.graph.ir import Graph, Node, Tensor
from isochrone.graph.ops import Add, FusedLinear, Input, Linear, Quantise, Scale, Weight
from isochrone.graph.pipeline import lower
from isochrone.graph.printing import format_graph
from isochrone.graph.summary import format_summary, summarise
from isochrone.models import Stored


def small() -> Graph:
    b = Builder({"table": Stored((40, 64), formats.Q8_0), "w": Stored((64, 64), formats.Q4_0)})
    x = b.embed("table", b.input("token_ids"))
    return b.graph(b.linear(b.scale(x, 2.0, "twice"), "w"))


def changed(graph: Graph, at: int, **fields) -> Graph:
    nodes = list(graph.nodes)
    nodes[at] = replace(nodes[at], **fields)
    return replace(graph, nodes=tuple(nodes))


GRAPH = small()
TWICE = next(i for i, node in enumerate(GRAPH.nodes) if isinstance(node.op, Scale))
LAST = len(GRAPH.nodes) - 1


@pytest.mark.parametrize(
    ("graph", "complaint"),
    [
        (changed(GRAPH, TWICE, inputs=(LAST,)), "stand before"),
        (changed(GRAPH, TWICE, output=Tensor((1, 64))), "its inputs make"),
        (changed(GRAPH, TWICE, op=Add()), "missing 1 required"),
        (changed(GRAPH, LAST, inputs=(TWICE, 0)), "w: "),
        (replace(GRAPH, outputs=(99,)), "not a node"),
        (replace(GRAPH, level="lowered"), "needs quantised activations"),
        (replace(GRAPH, nodes=(*GRAPH.nodes, Node(Input("token_ids"), (), GRAPH.nodes[0].output, "again"))), "twice"),
        (replace(GRAPH, nodes=(*GRAPH.nodes, Node(Weight("v"), (), Tensor((4,)), "v"))), "stored as arena"),
        (changed(GRAPH, TWICE, op=Quantise(), output=Tensor(GRAPH.nodes[TWICE].output.shape, "q8")), "may not stand"),
        (changed(GRAPH, LAST, op=FusedLinear((64,))), "may not stand"),
        (changed(GRAPH, LAST, op=Linear(bias=True)), "extra inputs"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_a_broken_graph_is_named(graph, complaint):
    with pytest.raises(GraphError, match=complaint):
        check(graph)


def test_a_graph_of_another_level_is_refused():
    check(GRAPH, "model")
    with pytest.raises(GraphError, match="not lowered"):
        check(GRAPH, "lowered")
    check(lower(GRAPH), "lowered")


def test_a_graph_prints_one_node_a_line_with_what_is_not_default():
    text = format_graph(lower(GRAPH)).splitlines()
    assert len(text) == len(lower(GRAPH).nodes) + 1 and text[-1].startswith("return %")
    assert "Scale(%2; factor=2.0) : f32[tokens, 64]  # twice" in format_graph(GRAPH)
    assert "Linear(%5, %4) : f32[tokens, 64]  # w" in text[-2]


def test_the_summary_shows_each_pass_and_that_weights_never_grow():
    table = summarise(GRAPH, depth=3)
    assert table[0].stage == "model" and table[-1].stage == "quantise_activations"
    assert {row.weight_bytes for row in table} == {table[0].weight_bytes}
    assert (table[0].num_ops, table[-1].num_ops) == (3, 4)
    lines = format_summary(table).splitlines()
    assert lines[0].split() == ["after", "ops", "weights", "MB", "activations", "kB", "MFLOP/token"]
    assert len({len(line) for line in lines}) == 1
