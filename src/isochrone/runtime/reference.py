"""The oracle: runs a graph of any level in NumPy, and a Runtime made of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..graph.ir import Graph
from ..graph.ops import Attend, Cache, Input, Weight
from ..graph.printing import format_graph
from .reference_cache import GrowingCache, KvType, PagedCache
from .reference_sampling import sample
from .step import F32, I32, RuntimeInfo, StepBatch, StepResult


def run_reference(
    graph: Graph, inputs: Mapping[str, I32], weights: Mapping[str, F32], cache: Cache | None = None
) -> list[Any]:
    """The graph's outputs.

    inputs   token_ids, positions i32 [tokens] and logit_rows i32 [rows], those that the graph has
    weights  canonical name -> f32, dequantised; read once each, so a mapping may make them on demand
    cache    None: all tokens are one new sequence
    """
    if cache is None:
        cache = GrowingCache()
        cache.begin((0, next((len(v) for k, v in inputs.items() if k != "logit_rows"), 0)))
    last_reader = _last_readers(graph)
    values: dict[int, Any] = {}
    for i, node in enumerate(graph.nodes):
        if isinstance(node.op, Weight):
            values[i] = weights[node.op.name]
        elif isinstance(node.op, Input):
            values[i] = inputs[node.op.name]
        else:
            extra = (cache,) if node.op.has_cache else ()
            values[i] = node.op.reference(*[values[j] for j in node.inputs], *extra)
        for j in {i, *node.inputs}:
            if last_reader[j] <= i:
                del values[j]
    return [values[i] for i in graph.outputs]


def _last_readers(graph: Graph) -> list[int]:
    """For each node the last id that needs its value; itself where nobody does."""
    last = list(range(len(graph.nodes)))
    for i, node in enumerate(graph.nodes):
        for j in node.inputs:
            last[j] = i
    for i in graph.outputs:
        last[i] = len(graph.nodes)
    return last


class ReferenceRuntime:
    """A Runtime in plain NumPy: slow, exact, and the same on every machine.

    graph    of any level; its one output is logits [rows, vocab]
    weights  canonical name -> f32, the derived ones included
    kv_type  what keys and values are rounded to in the cache
    """

    def __init__(
        self,
        graph: Graph,
        weights: Mapping[str, F32],
        *,
        context: int,
        num_pages: int,
        page_tokens: int = 32,
        kv_type: KvType = "f32",
        num_tokens_max: int = 2048,
        num_sequences_max: int = 256,
        num_rows_max: int = 2048,
    ) -> None:
        self._graph, self._weights = graph, weights
        layers = [node.op for node in graph.nodes if isinstance(node.op, Attend)]
        widths = {op.layer: op.kv_heads * op.head_dim for op in layers}
        self._cache = PagedCache(widths, num_pages, page_tokens, kv_type)
        self._info = RuntimeInfo(
            vocab_size=graph.nodes[graph.outputs[0]].output.width,
            context=context,
            page_tokens=page_tokens,
            num_pages=num_pages,
            num_tokens_max=num_tokens_max,
            num_sequences_max=num_sequences_max,
            num_rows_max=num_rows_max,
            plan_hash=hashlib.sha256(f"reference {kv_type}\n{format_graph(graph)}".encode()).hexdigest(),
            kv_type=kv_type,
            page_bytes=4 * 2 * sum(widths.values()) * page_tokens,
        )

    @property
    def info(self) -> RuntimeInfo:
        return self._info

    def step(self, batch: StepBatch) -> StepResult:
        """Run one step."""
        self._cache.begin(batch.positions, batch.starts, batch.pages)
        inputs = {"token_ids": batch.token_ids, "positions": batch.positions, "logit_rows": batch.logit_rows}
        (logits,) = run_reference(self._graph, inputs, self._weights, self._cache)
        return sample(np.asarray(logits, np.float32), batch.sampling, batch.num_top)

    def read_pages(self, pages: Sequence[int]) -> NDArray[np.uint8]:
        """Copies of these pages, u8 [pages, page_bytes]."""
        return self._cache.read_pages(pages)

    def write_pages(self, pages: Sequence[int], data: NDArray[np.uint8]) -> None:
        """Put back what `read_pages` gave."""
        self._cache.write_pages(pages, data)

    def close(self) -> None:
        """There is nothing to stop."""
