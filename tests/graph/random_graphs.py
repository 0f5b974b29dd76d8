"""Random valid graphs out of the pieces that models are made of, and values to run them on."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from isochrone.graph import formats
from isochrone.graph.build import Builder
from isochrone.graph.ir import Extents, Graph
from isochrone.graph.ops import Attend, Exchange, GeluTanh, Input, Mul, Rope, Silu, Weight
from isochrone.models import Stored
from isochrone.runtime.reference import run_reference
from isochrone.runtime.reference_cache import GrowingCache

WIDTH, INNER, VOCAB, HEAD_DIM = 64, 96, 40, 16
FORMATS = (formats.F32, formats.Q8_0, formats.Q4_1, formats.Q6_K)


class Pieces:
    """Adds pieces to a builder; every choice is drawn, so that failures shrink."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.tensors: dict[str, Stored] = {}
        self.b = Builder(self.tensors)
        self.count = 0
        self.positions = self.b.input("positions")

    def name(self, stem: str) -> str:
        self.count += 1
        return f"{stem}.{self.count}"

    def vector(self, width: int) -> str:
        name = self.name("vector")
        self.tensors[name] = Stored((width,), formats.F32)
        return name

    def linear(self, x: int, rows: int, columns: int, format: formats.WeightFormat | None = None) -> int:
        name = self.name("weight")
        self.tensors[name] = Stored((rows, columns), format or self.draw(st.sampled_from(FORMATS)))
        if self.draw(st.booleans()):
            self.tensors[f"{name}.bias"] = Stored((rows,), formats.F32)
        return self.b.linear(x, name)

    def norm(self, x: int) -> int:
        return self.b.rms_norm(x, self.vector(WIDTH), 1e-5)

    def mlp(self, x: int) -> int:
        same = self.draw(st.one_of(st.none(), st.sampled_from(FORMATS)))
        gate, up = self.linear(x, INNER, WIDTH, same), self.linear(x, INNER, WIDTH, same)
        act = self.draw(st.sampled_from(["silu", "gelu_tanh"]))
        y = self.b.gated(gate, up, act, self.name("gated"))
        if self.draw(st.integers(0, 4)) == 0:  # someone else reads a half
            y = self.b.add(y, gate, self.name("add"))
        return self.linear(y, WIDTH, INNER)

    def attention(self, x: int) -> int:
        heads, kv_heads = self.draw(st.sampled_from([(4, 4), (4, 2), (4, 1)]))
        self.tensors.setdefault("inv_freq", Stored((HEAD_DIM // 2,), formats.F32))
        q, k, v = (self.linear(x, h * HEAD_DIM, WIDTH) for h in (heads, kv_heads, kv_heads))
        if self.draw(st.booleans()):
            q = self.b.rms_norm(q, self.vector(HEAD_DIM), 1e-6, heads)
        if self.draw(st.booleans()):
            turn = Rope(heads, HEAD_DIM, HEAD_DIM), Rope(kv_heads, HEAD_DIM, HEAD_DIM)
            q = self.b.rope(q, self.positions, turn[0], "inv_freq", self.name("rope"))
            k = self.b.rope(k, self.positions, turn[1], "inv_freq", self.name("rope"))
        self.count += 1
        op = Attend(self.count, heads, kv_heads, HEAD_DIM, 0.25, self.draw(st.sampled_from([None, 1, 3])))
        return self.linear(self.b.attend(q, k, v, op, self.name("attend")), WIDTH, heads * HEAD_DIM)

    def nothing(self, x: int) -> int:
        match self.draw(st.integers(0, 3)):
            case 0:
                return self.b.scale(x, 1.0, self.name("scale"))
            case 1:
                return self.b.slice(x, 0, WIDTH, self.name("slice"))
            case 2:
                return self.b.apply(Exchange(self.draw(st.sampled_from(["all_reduce", "all_gather"]))), x, name="one")
            case _:
                return self.b.scale(x, 0.5, self.name("scale"))

    def pointwise(self, x: int) -> int:
        op = self.draw(st.sampled_from([Silu(), GeluTanh(), Mul()]))
        return self.b.apply(op, *([x] * (2 if isinstance(op, Mul) else 1)), name=self.name("pointwise"))

    def residual(self, x: int, piece: Any) -> int:
        y = piece(self.norm(x))
        return self.b.add(*self.draw(st.permutations([x, y])), self.name("add"))


@st.composite
def graphs(draw: Any, num_pieces_max: int = 4) -> Graph:
    """A graph from token ids to logits."""
    p = Pieces(draw)
    p.tensors["table"] = Stored((VOCAB, WIDTH), draw(st.sampled_from(FORMATS)))
    x = p.b.embed("table", p.b.input("token_ids"))
    pieces = [p.mlp, p.attention, p.nothing, p.pointwise, p.norm]
    for _ in range(draw(st.integers(1, num_pieces_max))):
        piece = draw(st.sampled_from(pieces))
        x = p.residual(x, piece) if draw(st.booleans()) else piece(x)
    x = p.norm(p.b.gather_rows(x, p.b.input("logit_rows")))
    return p.b.graph(p.b.linear(x, "table") if draw(st.booleans()) else p.linear(x, VOCAB, WIDTH))


def random_weights(graph: Graph, seed: int) -> dict[str, np.ndarray]:
    """A value for every weight, small enough that nothing overflows."""
    rng = np.random.default_rng(seed)
    weights = {}
    for node in graph.nodes:
        if isinstance(node.op, Weight):
            shape = node.output.shape
            weights[node.op.name] = rng.normal(0, 1 / np.sqrt(shape[-1]), shape).astype(np.float32)
    return weights


def run(graph: Graph, weights: dict[str, np.ndarray], seed: int, num_tokens: int = 5) -> np.ndarray:
    """Logits of two sequences in one step, for every token."""
    rng = np.random.default_rng(seed)
    cache, cut = GrowingCache(), num_tokens // 2
    cache.begin((0, cut, num_tokens))
    inputs = {
        "token_ids": rng.integers(0, VOCAB, num_tokens).astype(np.int32),
        "positions": np.concatenate([np.arange(cut), np.arange(num_tokens - cut)]).astype(np.int32),
        "logit_rows": np.arange(num_tokens, dtype=np.int32),
    }
    used = {n.op.name for n in graph.nodes if isinstance(n.op, Input)}
    (logits,) = run_reference(graph, {k: v for k, v in inputs.items() if k in used}, weights, cache)
    return logits


STEP = Extents(tokens=5, rows=5, depth=3)
