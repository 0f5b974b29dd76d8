"""A pass changes no result, keeps the graph well formed, and finishes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isochrone.graph import formats
from isochrone.graph.build import Builder
from isochrone.graph.check import CONTRACTIONS, check
from isochrone.graph.ir import Graph, Op, graph_cost
from isochrone.graph.ops import (
    Add,
    FusedLinear,
    Gated,
    GatedLinear,
    Linear,
    Quantise,
    Slice,
)
from isochrone.graph.passes import drop_no_ops, fuse_gate_up, fuse_qkv, fuse_residual, quantise_activations
from isochrone.graph.pipeline import PIPELINE, lower, stages
from isochrone.models import Stored

from .random_graphs import STEP, graphs, random_weights, run

EXACT = [drop_no_ops, fuse_gate_up, fuse_qkv, fuse_residual]
"""Passes after which the arithmetic is the same but for the order of sums."""
seeds = st.integers(0, 2**16)
quick = settings(max_examples=150, deadline=None)


def with_quantised_inputs(graph: Graph) -> Graph:
    """The same graph, whose contractions themselves quantise what they multiply with integer weights."""

    def patched(node):
        if isinstance(node.op, CONTRACTIONS) and graph.nodes[node.inputs[1]].output.is_quantised:
            return dataclasses.replace(node, op=OnCodes(node.op))
        return node

    return dataclasses.replace(graph, nodes=tuple(patched(node) for node in graph.nodes))


class OnCodes(Op):
    def __init__(self, inner):
        self.inner = inner

    def reference(self, x, *rest):
        return self.inner.reference(Quantise().reference(x), *rest)


@pytest.mark.parametrize("run_pass", EXACT, ids=lambda p: p.__name__)
@quick
@given(graph=graphs(), seed=seeds)
def test_a_pass_changes_no_result_and_finishes(run_pass, graph, seed):
    check(graph, "model")
    passed, weights = run_pass(graph), random_weights(graph, seed)
    check(passed)
    np.testing.assert_allclose(run(passed, weights, seed), run(graph, weights, seed), rtol=1e-4, atol=1e-5)
    assert graph_cost(passed, STEP).activation_bytes <= graph_cost(graph, STEP).activation_bytes
    assert run_pass(passed) == passed


@quick
@given(graph=graphs(), seed=seeds)
def test_quantising_activations_is_what_each_contraction_would_do_alone(graph, seed):
    passed, weights = quantise_activations(graph), random_weights(graph, seed)
    check(passed)
    np.testing.assert_allclose(
        run(passed, weights, seed), run(with_quantised_inputs(graph), weights, seed), rtol=1e-4, atol=1e-5
    )
    assert quantise_activations(passed) == passed


@quick
@given(graph=graphs(), seed=seeds)
def test_the_whole_pipeline_lowers_any_graph_and_is_stable(graph, seed):
    lowered, weights = lower(graph), random_weights(graph, seed)
    check(lowered, "lowered")
    assert lower(lowered) == lowered
    assert np.isfinite(run(lowered, weights, seed)).all()


@quick
@given(graph=graphs(), seed=seeds)
def test_every_stage_of_the_pipeline_is_well_formed(graph, seed):
    named = list(stages(graph))
    assert [name for name, _ in named] == ["model", *(p.__name__ for p in PIPELINE)]
    for _, stage in named:
        check(stage)
    assert named[-1][1].nodes == lower(graph).nodes


def builder(**tensors):
    return Builder({"table": Stored((40, 64), formats.F32), **tensors})


def kinds(graph):
    return [type(node.op) for node in graph.nodes if node.inputs]


def matrix(format=formats.Q4_0, rows=64):
    return Stored((rows, 64), format)


def test_gate_and_up_of_one_format_become_one_contraction():
    b = builder(gate=matrix(), up=matrix())
    x = b.embed("table", b.input("token_ids"))
    graph = b.graph(b.gated(b.linear(x, "gate"), b.linear(x, "up"), "silu", "gated"))
    fused = fuse_gate_up(graph)
    assert kinds(fused)[1:] == [GatedLinear]
    assert graph_cost(fused, STEP).activation_bytes < graph_cost(graph, STEP).activation_bytes


def test_gate_and_up_of_two_formats_still_read_their_input_once():
    b = builder(gate=matrix(formats.Q4_0), up=matrix(formats.Q8_0))
    x = b.embed("table", b.input("token_ids"))
    graph = lower(b.graph(b.gated(b.linear(x, "gate"), b.linear(x, "up"), "silu", "gated")))
    assert kinds(graph)[1:] == [Quantise, FusedLinear, Slice, Slice, Gated]


def test_linears_of_one_input_keep_their_formats_when_fused():
    b = builder(q=matrix(formats.Q4_K), k=matrix(formats.Q4_K, 32), v=matrix(formats.Q6_K, 32))
    x = b.embed("table", b.input("token_ids"))
    graph = fuse_qkv(b.graph(*(b.linear(x, name) for name in "qkv")))
    (fused,) = [node for node in graph.nodes if isinstance(node.op, FusedLinear)]
    assert fused.op.splits == (64, 32, 32) and fused.name == "q+k+v"
    assert [graph.nodes[i].output.dtype.name for i in fused.inputs[1:]] == ["q4_k", "q4_k", "q6_k"]
    assert [graph.nodes[i].name for i in graph.outputs] == ["q", "k", "v"]


def test_f32_and_quantised_weights_do_not_fuse():
    b = builder(q=matrix(formats.Q4_K), k=matrix(formats.F32))
    x = b.embed("table", b.input("token_ids"))
    graph = b.graph(*(b.linear(x, name) for name in "qk"))
    assert fuse_qkv(graph) is graph


def test_a_residual_enters_the_linear_that_only_the_sum_reads():
    b = builder(w=matrix())
    x = b.embed("table", b.input("token_ids"))
    fused = fuse_residual(b.graph(b.add(b.linear(x, "w"), x, "add")))
    assert kinds(fused)[1:] == [Linear] and fused.nodes[-1].op.residual
    b = builder(w=matrix())
    x = b.embed("table", b.input("token_ids"))
    y = b.linear(x, "w")
    kept = b.graph(b.add(x, y, "add"), y)
    assert fuse_residual(kept) is kept


def test_a_sum_of_two_linears_keeps_one_of_them_apart():
    b = builder(v=matrix(), w=matrix())
    x = b.embed("table", b.input("token_ids"))
    fused = fuse_residual(b.graph(b.add(b.linear(x, "v"), b.linear(x, "w"), "add")))
    assert kinds(fused)[1:] == [Linear, Linear] and Add not in kinds(fused)


def test_one_quantise_serves_all_readers():
    b = builder(v=matrix(), w=matrix(formats.Q8_0), f=matrix(formats.F32))
    x = b.embed("table", b.input("token_ids"))
    graph = quantise_activations(b.graph(*(b.linear(x, name) for name in "vwf")))
    assert kinds(graph).count(Quantise) == 1
    inputs = {node.name: graph.nodes[node.inputs[0]].output.dtype for node in graph.nodes if type(node.op) is Linear}
    assert inputs == {"v": "q8", "w": "q8", "f": "f32"}
