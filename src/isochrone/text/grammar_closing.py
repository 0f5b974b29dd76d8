"""How a JSON value comes to its end: of the tokens that may come next, those that close what is open.

An answer under a schema is worth nothing when max_tokens cuts it.  Towards that end the tokens are narrowed to those
that end the answer, close a string, a list or an object, or go on to what is still required.  What an address or a time
must have before it may end (`@`, `Z`, a dot) comes next; where nothing of this may come, the model chooses as before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

U32 = NDArray[np.uint32]
LETTER = b"z"
"""Begins no value of JSON: where it may come, a string is open."""
ANY = b"\\"
"""May come in a string only where any character may: nothing there is to be gone on to."""
SHARE, NUM_TOKENS_MAX = 3, 128
"""The end begins with the last third of what an answer may have, and at most so many tokens before it."""
_SIGNS: tuple[Callable[[bytes], bool], ...] = (
    lambda piece: piece == b"@",
    lambda piece: piece == b"Z",
    lambda piece: piece == b".",
)
_OUTSIDE: tuple[Callable[[bytes], bool], ...] = (
    lambda piece: not piece.strip(b"]}"),
    lambda piece: piece.startswith(b'"') and not piece.strip(b'"]}'),
    lambda piece: piece.startswith(b","),
)
_IN_STRING: tuple[Callable[[bytes], bool], ...] = (
    lambda piece: piece.startswith(b'"') and not piece.strip(b'"]}'),
    lambda piece: piece.startswith(b'"'),
)
"""What is preferred, best first, within a string and outside of one."""


def num_closing(num_answer_max: int) -> int:
    """How many tokens before its limit an answer is brought to its end."""
    return min(NUM_TOKENS_MAX, num_answer_max // SHARE)


class Closing:
    """Of one vocabulary.

    pieces  its tokens as bytes, empty where a token is no text;  end_ids: those that end an answer
    """

    def __init__(self, pieces: Iterable[bytes], end_ids: Iterable[int], num_words: int) -> None:
        known = [(id, piece) for id, piece in enumerate(pieces) if piece]

        def tier(wanted: Callable[[bytes], bool]) -> U32:
            return _bits([id for id, piece in known if wanted(piece)], num_words)

        self._end, self._letter = _bits(list(end_ids), num_words), tier(lambda piece: piece == LETTER)
        self._any = tier(lambda piece: piece == ANY)
        self._outside, self._in_string = list(map(tier, _OUTSIDE)), list(map(tier, _IN_STRING))
        self._signs = list(map(tier, _SIGNS))

    def narrow(self, mask: U32) -> U32:
        """The tokens of a mask that close most, or the mask itself where nothing can be closed."""
        is_in_string, is_free = (mask & self._letter).any(), (mask & self._any).any()
        tiers = self._in_string if is_in_string else self._outside
        for tier in (self._end, *tiers, *([] if is_in_string and is_free else self._signs)):
            narrowed: U32 = mask & tier
            if narrowed.any():
                return narrowed
        return mask


def _bits(ids: list[int], num_words: int) -> U32:
    words = np.zeros(num_words, np.uint32)
    at = np.asarray(ids, np.int64)
    np.bitwise_or.at(words, at >> 5, np.uint32(1) << (at & 31).astype(np.uint32))
    return words
