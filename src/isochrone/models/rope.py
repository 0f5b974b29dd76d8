"""Frequencies of the rotary embedding under every scaling in use.

Two scalings depend on how long the sequence is (dynamic, longrope).  A compiled plan turns every cached key once,
so the choice is made for the whole context that is served, not per step: keys cached early then agree with
queries that come late, and text does not depend on how a prompt was chunked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ..errors import BadModel
from .config import RopeConfig

F32 = NDArray[np.float32]

FACTOR_TENSORS = {"rope_freqs", "rope_factors_short", "rope_factors_long"}
"""Tensors of a GGUF file that hold divisors of the frequencies, f32 [head_dim / 2]."""


def frequencies(
    rope: RopeConfig, head_dim: int, model_context: int, context: int, factors: Mapping[str, F32] | None = None
) -> F32:
    """Angle per position of each pair, f32 [head_dim / 2].

    context  positions that will be served; it decides dynamic and longrope
    factors  the FACTOR_TENSORS that the checkpoint has
    """
    exponent = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    base = np.float32(1) / np.power(np.float32(rope.theta), exponent)
    match rope.scaling:
        case "none":
            freq = base
        case "linear":
            freq = base / np.float32(rope.factor)
        case "dynamic":
            freq = _dynamic(rope, exponent, head_dim, model_context, context)
        case "llama3":
            freq = _llama3(rope, base)
        case "yarn":
            freq = _yarn(rope, base, head_dim)
        case "longrope":
            freq = _divided(base, _longrope_divisors(rope, context, factors or {}))
        case "factors":
            freq = _divided(base, _divisor_tensor("rope_freqs", factors or {}))
    return np.asarray(freq, np.float32)


def attention_factor(rope: RopeConfig, model_context: int) -> float:
    """What cos and sin are multiplied by."""
    if rope.attention_factor is not None:
        return rope.attention_factor
    if rope.scaling == "yarn":
        if rope.mscale and rope.mscale_all:
            return _mscale(rope.factor, rope.mscale) / _mscale(rope.factor, rope.mscale_all)
        return _mscale(rope.factor, 1.0)
    if rope.scaling == "longrope":
        factor = rope.factor if rope.factor > 1 else model_context / rope.original_context
        return math.sqrt(1 + math.log(factor) / math.log(rope.original_context)) if factor > 1 else 1.0
    return 1.0


def _mscale(factor: float, weight: float) -> float:
    return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0


def _dynamic(rope: RopeConfig, exponent: F32, head_dim: int, model_context: int, context: int) -> F32:
    """The base grows with the context ("NTK-aware", bloc97 and emozilla 2023)."""
    length = max(context, model_context)
    stretch = rope.factor * length / model_context - (rope.factor - 1)
    theta = rope.theta * stretch ** (head_dim / (head_dim - 2))
    return np.asarray(np.float32(1) / np.power(np.float32(theta), exponent), np.float32)


def _llama3(rope: RopeConfig, base: F32) -> F32:
    """Short wavelengths stay, long ones are stretched, those between are mixed (Llama 3.1)."""
    turns = rope.original_context * base / np.float32(2 * math.pi)
    smooth = np.clip((turns - rope.low_freq) / (rope.high_freq - rope.low_freq), 0, 1)
    return np.asarray((1 - smooth) * base / rope.factor + smooth * base, np.float32)


def _yarn(rope: RopeConfig, base: F32, head_dim: int) -> F32:
    """Dimensions that turn often stay, those that turn rarely are stretched, a ramp between (Peng et al. 2023)."""

    def dimension(turns: float) -> float:
        return head_dim * math.log(rope.original_context / (turns * 2 * math.pi)) / (2 * math.log(rope.theta))

    low, high = dimension(rope.beta_fast), dimension(rope.beta_slow)
    if rope.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    width = high - low if high != low else 0.001
    ramp = np.clip((np.arange(head_dim // 2, dtype=np.float32) - np.float32(low)) / np.float32(width), 0, 1)
    return np.asarray(base / np.float32(rope.factor) * ramp + base * (1 - ramp), np.float32)


def _divided(base: F32, divisors: F32) -> F32:
    if divisors.shape != base.shape or not np.all((divisors > 1e-6) & (divisors < 1e9)):
        raise BadModel(
            f"The model's rope has {divisors.size} divisors for {base.size} pairs, or some out of all proportion.",
            fix="Check rope_scaling in the model's config, or fetch the checkpoint again.",
        )
    return base / divisors


def _longrope_divisors(rope: RopeConfig, context: int, factors: Mapping[str, F32]) -> F32:
    """One divisor per frequency, searched for by the model's makers (Ding et al. 2024)."""
    is_long = context > rope.original_context
    given = rope.long if is_long else rope.short
    if given:
        return np.asarray(given, np.float32)
    return _divisor_tensor("rope_factors_long" if is_long else "rope_factors_short", factors)


def _divisor_tensor(name: str, factors: Mapping[str, F32]) -> F32:
    if name not in factors:
        raise BadModel(
            f"The model stretches its rope by the tensor {name}, which the checkpoint lacks.",
            fix="Fetch the checkpoint again, or convert it anew with a current converter.",
        )
    return np.asarray(factors[name], np.float32).reshape(-1)
