"""Activation functions as tile code; all are x * sigmoid(z)."""

from __future__ import annotations

from ..graph.activations import Activation
from .tile import LOG2_E, Tile, Value


def activate(t: Tile, x: Value, act: Activation) -> Value:
    """silu: z = x.  gelu_tanh: z = 2 * sqrt(2 / pi) * (x + 0.044715 x^3), for tanh(z / 2) = 2 sigmoid(z) - 1."""
    z = x
    if act == "gelu_tanh":
        z = (x + x * x * x * 0.044715) * 1.5957691216057308
    one = t.const(1.0, x.type)
    decay = t.exp2(t.absolute(z) * -LOG2_E)  # exp of a non-positive number only: no overflow
    return x * t.select(t.compare("oge", z, 0.0), one, decay) / (one + decay)
