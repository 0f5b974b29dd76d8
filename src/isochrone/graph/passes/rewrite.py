"""The one way a pass rebuilds a graph: walk the old nodes in order, and copy, replace or leave out each."""

from __future__ import annotations

from ..ir import Graph, Level, Node


class Rewriter:
    """New nodes, and where each old one went.

    A replacement may need a leaf that stands later in the old graph: reading an old id that has no place yet
    copies it, which only leaves allow.
    """

    __slots__ = ("_new", "_old", "_places")

    def __init__(self, graph: Graph) -> None:
        self._old = graph
        self._new: list[Node] = []
        self._places: list[int] = [-1] * len(graph.nodes)

    def place(self, old: int) -> int:
        """The new id of an old node."""
        at = self._places[old]
        if at < 0:
            node = self._old.nodes[old]
            assert not node.inputs, f"%{old} {node.name} is read before its place is known"
            self._new.append(node)
            at = self._places[old] = len(self._new) - 1
        return at

    def copy(self, old: int) -> int:
        """Take an old node over as it is."""
        if self._places[old] >= 0:
            return self._places[old]
        node = self._old.nodes[old]
        if node.inputs:
            inputs = tuple([self.place(i) for i in node.inputs])
            if inputs != node.inputs:
                node = Node(node.op, inputs, node.output, node.name)
        return self.put(old, node)

    def put(self, old: int, node: Node) -> int:
        """Let a new node, whose inputs are new ids, stand for an old one."""
        self._new.append(node)
        at = self._places[old] = len(self._new) - 1
        return at

    def add(self, node: Node) -> int:
        """Add a node that stands for no old one."""
        self._new.append(node)
        return len(self._new) - 1

    def alias(self, old: int, new: int) -> None:
        """Let an existing new node stand for an old one."""
        self._places[old] = new

    def graph(self) -> Graph:
        """The rewritten graph; a model's own level ends with the first rewrite."""
        outputs = tuple([self._places[i] for i in self._old.outputs])
        assert -1 not in outputs, "a pass dropped an output"
        level: Level = "fused" if self._old.level == "model" else self._old.level
        return Graph(tuple(self._new), outputs, level)
