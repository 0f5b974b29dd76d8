"""What rounding weights at load costs each family, in nats a token against its own f32 logits."""

from __future__ import annotations

import json

import numpy as np
import pytest

from isochrone import models
from isochrone.graph.formats import BF16, F32, Q4_1, Q8_0, Quantised, WeightFormat
from isochrone.graph.pipeline import lower
from isochrone.runtime.reference import run_reference
from isochrone.runtime.reference_cache import as_kv
from isochrone.runtime.reference_sampling import log_softmax
from isochrone.weights.dequantise import dequantise
from isochrone.weights.quantise import quantise_rows

from .checkpoints import SIZES, arrays, logits_of, make
from .test_parity import rope

FAMILIES = {
    "llama": rope(),
    "mistral": {**rope(), "sliding_window": 7},
    "smollm3": {**rope(), "no_rope_layer_interval": 2, "tie_word_embeddings": True},
    "qwen2": rope(1e6),
    "qwen3": {**rope(1e6), "head_dim": 24},
}
FORMS: dict[str, tuple[WeightFormat, WeightFormat, float]] = {
    # layers, embedding and head, bound on the mean KL in nats a token: twice the worst family's when it was written
    "bf16": (BF16, BF16, 5e-5),
    "int8": (Q8_0, Q8_0, 8e-4),
    "int4": (Q4_1, Q8_0, 7e-2),
}


def rounded(values: np.ndarray, format: WeightFormat) -> np.ndarray:
    if isinstance(format, Quantised):
        return dequantise(format, quantise_rows(values, format)).reshape(values.shape)
    return as_kv(values, "bf16")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("family", FAMILIES)
def test_mean_divergence_from_f32_is_bounded(family, form):
    layers, edges, bound = FORMS[form]
    model = make(family, **FAMILIES[family], initializer_range=0.1)
    read = models.read_config("hf", json.loads(model.config.to_json_string()), {})
    weights, infos = {}, {}
    for name, value in arrays(model).items():
        format = F32 if value.ndim == 1 else edges if name in ("embed_tokens", "lm_head") else layers
        infos[name] = models.Stored(value.shape, format)
        weights[name] = value if format == F32 else rounded(value, format)
    ids = np.random.default_rng(4).integers(0, SIZES["vocab_size"], 60).astype(np.int32)
    at = np.arange(len(ids), dtype=np.int32)
    inputs = {"token_ids": ids, "positions": at, "logit_rows": at}
    graph = lower(models.build(read, infos))
    (logits,) = run_reference(graph, inputs, {**weights, **models.derived_weights(read, len(ids))})
    exact = [log_softmax(row) for row in logits_of(model, ids)]
    divergence = [(np.exp(p) * (p - log_softmax(row))).sum() for p, row in zip(exact, logits, strict=True)]
    assert 0 <= np.mean(divergence) <= bound
