"""SmolLM2-135M-Instruct on the reference: the text that every sound engine gives."""

from __future__ import annotations

import numpy as np
import pytest

from isochrone import models
from isochrone.graph.ir import Graph
from isochrone.graph.pipeline import lower
from isochrone.runtime.reference import run_reference
from isochrone.runtime.reference_cache import GrowingCache
from isochrone.weights import open_checkpoint, store

pytestmark = pytest.mark.model

ANCHORS = {
    # Greedy tokens on which llama.cpp and transformers (f32, the dequantised file) agree; prompt -> answer.
    (504, 1463, 282, 260, 9403, 2327): (314, 253, 1977, 282, 5922, 284, 16247, 30, 657, 2585, 351, 260),
    (65, 42, 1812, 314, 260, 3575, 282, 4649, 47, 198, 49, 42): (378, 3575, 282, 4649, 314, 7042, 30, 198),
}


@pytest.fixture(scope="module")
def model() -> tuple[Graph, dict[str, np.ndarray]]:
    """The graph and its weights in f32, rows in the order that the graph means."""
    path = store.find("smollm2-135m")
    if path is None:
        pytest.skip("the model is missing: isochrone pull smollm2-135m")
    checkpoint = open_checkpoint(path)
    config = models.read_config(checkpoint.kind, checkpoint.metadata, checkpoint.tensors)
    names, orders = models.canonical_names(checkpoint.kind, checkpoint.tensors), models.row_orders(config)
    stored = {name: checkpoint.tensors[at] for name, at in names.items()}
    weights = {}
    for name, tensor in stored.items():
        rows = tensor.values()
        weights[name] = rows[orders[name]] if name in orders else rows
    return models.build(config, stored), {**weights, **models.derived_weights(config, config.context)}


def greedy(graph: Graph, weights: dict[str, np.ndarray], prompt: tuple[int, ...], count: int) -> tuple[int, ...]:
    cache, ids, start, answer = GrowingCache(), np.array(prompt, np.int32), 0, ()
    while len(answer) < count:
        cache.begin((0, len(ids)))
        positions = np.arange(start, start + len(ids), dtype=np.int32)
        inputs = {"token_ids": ids, "positions": positions, "logit_rows": np.array([len(ids) - 1], np.int32)}
        (logits,) = run_reference(graph, inputs, weights, cache)
        start, ids = start + len(ids), logits.argmax(axis=1).astype(np.int32)
        answer += (int(ids[0]),)
    return answer


@pytest.mark.parametrize("prompt", ANCHORS, ids=["steam engine", "capital of France"])
@pytest.mark.parametrize("level", ["model", "lowered"])
def test_greedy_text_is_that_of_other_sound_engines(model, level, prompt):
    graph, weights = model
    answer = greedy(graph if level == "model" else lower(graph), weights, prompt, len(ANCHORS[prompt]))
    assert answer == ANCHORS[prompt]
