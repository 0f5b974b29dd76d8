"""A graph as text, one node a line."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from .ir import Graph, Node, Op
from .ops import Input, Weight


def format_graph(graph: Graph) -> str:
    """The whole graph, in the order of execution; leaves stand where they are first known."""
    width = len(str(len(graph.nodes)))
    lines = [f"%{i:<{width}} = {format_node(node)}" for i, node in enumerate(graph.nodes)]
    return "\n".join([*lines, f"return {', '.join(f'%{i}' for i in graph.outputs)}"])


def format_node(node: Node) -> str:
    """One node: op, inputs, attributes that differ from their defaults, output, name."""
    inputs = ", ".join(f"%{i}" for i in node.inputs)
    attributes = format_attributes(node.op)
    inside = "; ".join(part for part in (inputs, attributes) if part)
    note = "" if isinstance(node.op, Weight | Input) else f"  # {node.name}"
    return f"{type(node.op).__name__}({inside}) : {node.output}{note}"


def format_attributes(op: Op) -> str:
    """`heads=9, head_dim=64`, leaving out what has its default value."""
    record: Any = op
    shown = [(f.name, getattr(record, f.name)) for f in fields(record) if getattr(record, f.name) != f.default]
    return ", ".join(f"{name}={value}" for name, value in shown)
