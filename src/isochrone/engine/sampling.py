"""What the engine brings to the drawing of a token: one uniform number, and the edits of the logits.

The number is a hash of (seed, sample, position): a counter, not a state.  So a sequence that is preempted, replayed in
another process or batched otherwise draws the same tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from isochrone.runtime.step import F32, I32

from .records import SamplingParams

U64 = NDArray[np.uint64]

FORBIDDEN = -1.0e9
"""Added to a logit that must not win; finite, so that a row of logits stays finite."""

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = 2**64 - 1
_MIX_1, _MIX_2 = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_STEP, _FACTOR_1, _FACTOR_2 = np.uint64(_GOLDEN), np.uint64(_MIX_1), np.uint64(_MIX_2)
_S30, _S27, _S31, _S40 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(40)
_UNIT = np.float32(2.0**-24)


def stream_key(seed: int, sample: int) -> int:
    """Where the stream of one sample begins; u64."""
    return _mix((_mix(seed & _MASK) + (sample + 1) * _GOLDEN) & _MASK)


def uniforms(keys: U64, positions: NDArray[np.integer]) -> F32:
    """f32 in [0, 1), one for each (stream key, position of the token to draw); 24 bits.

    SplitMix64 as a counter (Steele, Lea & Flood 2014; Stafford's mix 13).
    """
    x = positions.astype(np.uint64)
    x *= _STEP
    x += keys
    x ^= x >> _S30
    x *= _FACTOR_1
    x ^= x >> _S27
    x *= _FACTOR_2
    x ^= x >> _S31
    return (x >> _S40).astype(np.float32) * _UNIT


def _mix(x: int) -> int:
    x = ((x ^ (x >> 30)) * _MIX_1) & _MASK
    x = ((x ^ (x >> 27)) * _MIX_2) & _MASK
    return x ^ (x >> 31)


class Edits:
    """The edited logits of one sequence: arrays kept up to date token by token, never rebuilt.

    A logit becomes (l / factor if l > 0 else l * factor) + delta.  factor: repetition penalty of tokens seen in prompt
    or answer.  delta: logit bias, less presence and frequency penalties of tokens in the answer; FORBIDDEN while the
    answer is shorter than min_tokens and the token would end it.
    """

    def __init__(self, params: SamplingParams, prompt_ids: Iterable[int], end_ids: Iterable[int]) -> None:
        self._presence, self._frequency = params.presence_penalty, params.frequency_penalty
        self._factor, self._min_tokens = params.repetition_penalty, params.min_tokens
        self._end_ids = tuple(end_ids) if params.min_tokens else ()
        self._num_answer, self._num = 0, 0
        self._place: dict[int, int] = {}
        self._is_counted: set[int] = set()
        self._tokens, self._factors, self._deltas = np.empty(64, np.int32), np.empty(64, np.float32), np.empty(64)
        for token, bias in params.logit_bias.items():
            self._add(token, bias)
        for token in self._end_ids:
            self._add(token, FORBIDDEN)
        if self._factor != 1.0:
            for token in prompt_ids:
                at = self._at(token)  # may make the arrays anew
                self._factors[at] = self._factor

    @staticmethod
    def are_needed(params: SamplingParams) -> bool:
        """Whether these parameters edit any logit."""
        penalties = params.presence_penalty or params.frequency_penalty or params.repetition_penalty != 1.0
        return bool(penalties or params.logit_bias or params.min_tokens)

    @property
    def is_fixed(self) -> bool:
        """Whether no token to come changes them."""
        is_penal = self._factor != 1.0 or self._presence or self._frequency
        return not is_penal and self._num_answer >= self._min_tokens

    @property
    def tokens(self) -> I32:
        return self._tokens[: self._num]

    @property
    def factors(self) -> F32:
        return self._factors[: self._num]

    @property
    def deltas(self) -> NDArray[np.float64]:
        return self._deltas[: self._num]

    def push(self, token: int) -> None:
        """A token joined the answer."""
        self._num_answer += 1
        if self._num_answer == self._min_tokens:
            for end in self._end_ids:
                self._add(end, -FORBIDDEN)
        if self._factor == 1.0 and not (self._presence or self._frequency):
            return
        at = self._at(token)
        self._factors[at] = self._factor
        self._deltas[at] -= self._frequency
        if token not in self._is_counted:
            self._is_counted.add(token)
            self._deltas[at] -= self._presence

    def _add(self, token: int, delta: float) -> None:
        at = self._at(token)
        self._deltas[at] += delta

    def _at(self, token: int) -> int:
        at = self._place.get(token)
        if at is not None:
            return at
        if self._num == len(self._tokens):
            self._tokens, self._factors, self._deltas = (
                np.concatenate([a, np.empty_like(a)]) for a in (self._tokens, self._factors, self._deltas)
            )
        at = self._place[token] = self._num
        self._tokens[at], self._factors[at], self._deltas[at] = token, 1.0, 0.0
        self._num += 1
        return at


NO_EDITS = np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros(0, np.float32)


def gather_edits(rows: Sequence[Edits | None]) -> tuple[I32, I32, F32, F32]:
    """starts i32 [rows + 1], then tokens, factors and deltas of all rows one after another."""
    starts = np.zeros(len(rows) + 1, np.int32)
    present = [edits for edits in rows if edits is not None]
    if not present:
        return starts, *NO_EDITS
    np.cumsum([0 if edits is None else len(edits.tokens) for edits in rows], out=starts[1:])
    tokens = np.concatenate([edits.tokens for edits in present])
    factors = np.concatenate([edits.factors for edits in present])
    deltas = np.concatenate([edits.deltas for edits in present]).astype(np.float32)
    return starts, tokens, factors, deltas
