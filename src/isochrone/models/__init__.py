"""One file per architecture family: its config and tensor names, Hugging Face's and GGUF's, and its graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..graph.build import TensorInfo
from ..graph.formats import F32
from ..graph.ir import Graph
from .blocks import INV_FREQ, build_decoder
from .config import Choices, ModelConfig, RopeConfig
from .gguf import read_gguf
from .hf import read_hf
from .names import CheckpointKind, canonical_names
from .rope import FACTOR_TENSORS
from .tensors import Stored, check_tensors, derived_weights, expected_tensors, row_orders

__all__ = [
    "FACTOR_TENSORS", "INV_FREQ", "CheckpointKind", "Choices", "ModelConfig", "RopeConfig", "Stored",
    "build", "canonical_names", "derived_weights", "expected_tensors", "read_config", "row_orders",
]  # fmt: skip


def read_config(kind: CheckpointKind, metadata: Mapping[str, Any], stored: Mapping[str, TensorInfo]) -> ModelConfig:
    """The model that a checkpoint describes; `stored` are its tensors under its own names.

    Raises BadModel.
    """
    return read_gguf(metadata, stored) if kind == "gguf" else read_hf(metadata)


def build(config: ModelConfig, tensors: Mapping[str, TensorInfo]) -> Graph:
    """The graph of a model whose checkpoint holds `tensors`, by canonical name.

    Raises BadModel where the two do not fit.
    """
    check_tensors(config, tensors)
    derived = {INV_FREQ: Stored((config.head_dim // 2,), F32)}
    return build_decoder(config, {**tensors, **derived})
