"""How a JSON value comes to its end: of the tokens that may come next, those that close what is open.

An answer under a schema is worth nothing when max_tokens cuts it.  Towards that end the tokens are narrowed to those
that close a string, then a list or object, then go on to the next member: every schema that can end soon, does.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

U32 = NDArray[np.uint32]
LETTER = b"z"
"""Begins no value of JSON: where it may come, a string is open."""
SHARE, NUM_TOKENS_MAX = 3, 128
"""The end begins with the last third of what an answer may have, and at most so many tokens before it."""


def num_closing(num_answer_max: int) -> int:
    """How many tokens before its limit an answer is brought to its end."""
    return min(NUM_TOKENS_MAX, num_answer_max // SHARE)


class Closing:
    """Of one vocabulary.  pieces  its tokens as bytes, empty where a token is no text;  num_words: of a mask"""

    def __init__(self, pieces: Iterable[bytes], num_words: int) -> None:
        self._letter: int | None = None
        ends, quotes, opens, commas = ([] for _ in range(4))
        for id, piece in enumerate(pieces):
            if piece == LETTER:
                self._letter = id
            if not piece or piece[:1] not in b'"]},':
                continue
            if not piece.strip(b"]}"):
                ends.append(id)
            elif piece.startswith(b'"'):
                opens.append(id)
                quotes += [id] * (not piece.strip(b'"]}'))
            elif piece.startswith(b","):
                commas.append(id)
        self._ends, self._quotes, self._opens, self._commas = (
            _bits(ids, num_words) for ids in (ends, quotes, opens, commas)
        )

    def narrow(self, mask: U32) -> U32:
        """The tokens of a mask that close most, or the mask itself where nothing can be closed."""
        is_in_string = self._letter is not None and bool(mask[self._letter >> 5] >> np.uint32(self._letter & 31) & 1)
        tiers = (self._quotes, self._opens) if is_in_string else (self._ends, self._quotes, self._commas)
        for tier in tiers:
            narrowed = mask & tier
            if narrowed.any():
                return narrowed
        return mask


def _bits(ids: list[int], num_words: int) -> U32:
    words = np.zeros(num_words, np.uint32)
    if ids:
        at = np.asarray(ids)
        np.bitwise_or.at(words, at >> 5, np.uint32(1) << (at & 31).astype(np.uint32))
    return words
