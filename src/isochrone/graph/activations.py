"""The activation functions, by the name that gated ops carry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
Activation = Literal["silu", "gelu_tanh"]


def silu(x: F32) -> F32:
    """x / (1 + exp(-x)), without overflow: exp only of what is not positive."""
    e = np.exp(-np.abs(x))
    return np.asarray(x * np.where(x >= 0, np.float32(1), e) / (np.float32(1) + e), np.float32)


def gelu_tanh(x: F32) -> F32:
    """The tanh form of GELU."""
    inner = np.float32(0.7978845608028654) * (x + np.float32(0.044715) * x * x * x)
    return np.asarray(np.float32(0.5) * x * (np.float32(1) + np.tanh(inner)), np.float32)


ACTIVATIONS: Mapping[Activation, Callable[[F32], F32]] = {"silu": silu, "gelu_tanh": gelu_tanh}
