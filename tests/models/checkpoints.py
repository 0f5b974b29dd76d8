"""Small random models of every family, made by transformers, and the same weights for our reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from isochrone import models
from isochrone.graph.formats import F32

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

SIZES: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
}


def make(model_type: str, seed: int = 0, **overrides: Any) -> Any:
    """A transformers model in f32; weights large enough that attention is far from uniform."""
    torch.manual_seed(seed)
    config = transformers.AutoConfig.for_model(model_type, **{**SIZES, **overrides})
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.3)
            elif "norm" in name:
                parameter.normal_(1, 0.2)
    return model


def arrays(model: Any) -> dict[str, np.ndarray]:
    """Canonical name -> f32 weights, without the head of a tied model."""
    stored = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    return {name: stored[at] for name, at in models.canonical_names("hf", stored).items()}


def infos(weights: dict[str, np.ndarray]) -> dict[str, models.Stored]:
    """What the builder must know of these weights."""
    return {name: models.Stored(value.shape, F32) for name, value in weights.items()}


def logits_of(model: Any, ids: np.ndarray) -> np.ndarray:
    """Logits of transformers for one sequence, [tokens, vocab]."""
    with torch.no_grad():
        return model(torch.tensor(ids[None].astype(np.int64))).logits[0].float().numpy()
