"""From logits to a token: the definition that native sampling must agree with, in plain NumPy.

In this order: edits, mask, then greedy, or temperature, top-k, top-p over what top-k left, min-p, and one draw.
A cut keeps every token that ties with the last one kept, so no result depends on the order of a sort.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .step import F32, I32, U32, SamplingRows, StepResult

F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Choice:
    """How one row becomes a token; see SamplingRows."""

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    uniform: float = 0.0


def sample(logits: F32, rows: SamplingRows, num_top: int) -> StepResult:
    """The result of a step whose logits are [rows, vocab]."""
    num_rows = len(logits)
    tokens, logprobs = np.zeros(num_rows, np.int32), np.full(num_rows, -np.inf, np.float32)
    finite: NDArray[np.bool_] = np.asarray(np.isfinite(logits).all(axis=1))
    top_tokens = np.zeros((num_rows, num_top), np.int32)
    top_logprobs = np.full((num_rows, num_top), -np.inf, np.float32)
    for row in np.flatnonzero(finite):
        scores = log_softmax(logits[row])
        top_tokens[row], top_logprobs[row] = likeliest(scores, num_top)
        tokens[row] = rows.targets[row]
        if rows.targets[row] < 0:
            drawn = draw(edited(logits[row], rows, int(row)), _choice(rows, int(row)))
            if drawn is None:  # the mask forbids every token
                finite[row] = False
                continue
            tokens[row] = drawn
        logprobs[row] = scores[tokens[row]]
    return StepResult(tokens, logprobs, finite, top_tokens, top_logprobs)


def _choice(rows: SamplingRows, row: int) -> Choice:
    return Choice(
        float(rows.temperature[row]),
        int(rows.top_k[row]),
        float(rows.top_p[row]),
        float(rows.min_p[row]),
        float(rows.uniform[row]),
    )


def log_softmax(logits: F32) -> F64:
    """Log-probabilities of the unedited, untempered distribution."""
    shifted = logits.astype(np.float64) - float(logits.max())
    return np.asarray(shifted - np.log(np.exp(shifted).sum()), np.float64)


def likeliest(scores: F64, count: int) -> tuple[I32, F32]:
    """The `count` best tokens, best first, the lower id first among equals."""
    order = np.argsort(-scores, kind="stable")[:count]
    return order.astype(np.int32), scores[order].astype(np.float32)


def edited(logits: F32, rows: SamplingRows, row: int) -> F32:
    """Logits after the row's edits, minus infinity where its mask forbids."""
    out = logits.astype(np.float32, copy=True)
    for i in range(rows.edit_starts[row], rows.edit_starts[row + 1]):
        token, factor, delta = rows.edit_tokens[i], rows.edit_factors[i], rows.edit_deltas[i]
        out[token] = (out[token] / factor if out[token] > 0 else out[token] * factor) + delta
    if rows.mask is not None:
        out[~allowed(rows.mask[row], len(out))] = -np.inf
    return out


def allowed(words: U32, vocab: int) -> NDArray[np.bool_]:
    """Bit t % 32 of word t // 32, for every token t."""
    bits = np.unpackbits(words.astype("<u4").view(np.uint8), bitorder="little")
    return bits[:vocab].astype(np.bool_)


def draw(logits: F32, choice: Choice) -> int | None:
    """One token, or None where none is allowed; the lowest id wins a greedy tie."""
    best = float(logits.max())
    if best == -np.inf:
        return None
    if choice.temperature == 0:
        return int(np.argmax(logits))
    weights = np.exp((logits.astype(np.float64) - best) / choice.temperature)
    kept = logits >= _top_k_floor(logits, choice.top_k)
    kept &= logits >= _top_p_floor(logits, weights * kept, choice.top_p)
    kept &= weights >= min(choice.min_p, 1.0)
    cumulative = np.cumsum(weights * kept)
    # Tokens of weight zero never move the sum, so the first to pass it is one that was kept.
    at = int(np.searchsorted(cumulative, choice.uniform * cumulative[-1], side="right"))
    return min(at, int(np.flatnonzero(kept & (weights > 0))[-1]))


def _top_k_floor(logits: F32, top_k: int) -> float:
    """The logit of the k-th best token; everything from there up stays."""
    if top_k <= 0 or top_k >= len(logits):
        return -np.inf
    return float(np.partition(logits, len(logits) - top_k)[len(logits) - top_k])


def _top_p_floor(logits: F32, weights: F64, top_p: float) -> float:
    """The logit of the last token of the smallest set of likeliest ones that holds top_p of the weight."""
    if top_p >= 1:
        return -np.inf
    order = np.argsort(-weights, kind="stable")
    held = np.cumsum(weights[order])
    last = int(np.searchsorted(held, top_p * held[-1], side="left"))
    return float(logits[order[min(last, len(order) - 1)]])
