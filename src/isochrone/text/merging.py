"""Byte-pair merges followed straight from the mapped table, for texts too short to be worth loading the library."""

from __future__ import annotations

from bisect import bisect_left
from itertools import pairwise

from .table import Table

_NEVER = 1 << 63  # later than any rank


class Merger:
    """Joins the letters of a word into tokens, best-ranked pair first and leftmost among equals (Sennrich 2016)."""

    __slots__ = ("_pairs", "_ranks", "_table", "_whole_words", "_words")

    def __init__(self, table: Table) -> None:
        self._table = table
        self._pairs, self._ranks = table.merge_pairs, table.merge_ranks
        self._whole_words: bool = table.facts["whole_words"]
        self._words: dict[tuple[int, ...], list[int]] = {}

    def word(self, letters: tuple[int, ...]) -> list[int]:
        """The tokens of one word, given the ids of its letters."""
        if len(letters) == 1:
            return list(letters)
        known = self._words.get(letters)
        if known is None:
            whole = self._whole(letters) if self._whole_words else None
            known = self._words[letters] = self._merge(list(letters)) if whole is None else [whole]
        return known

    def _whole(self, letters: tuple[int, ...]) -> int | None:
        return self._table.id("".join(self._table.token(letter) or "" for letter in letters))

    def _merge(self, ids: list[int]) -> list[int]:
        ranks = [self._rank(left, right) for left, right in pairwise(ids)]
        while ranks:
            best = min(ranks)
            if best == _NEVER:
                break
            at = ranks.index(best)
            ids[at : at + 2] = [best & 0xFFFFFFFF]
            del ranks[at]
            if at > 0:
                ranks[at - 1] = self._rank(ids[at - 1], ids[at])
            if at < len(ranks):
                ranks[at] = self._rank(ids[at], ids[at + 1])
        return ids

    def _rank(self, left: int, right: int) -> int:
        """Rank << 32 | merged id, so that the smallest is the first to merge and says what it becomes."""
        pair = left << 32 | right
        at = bisect_left(self._pairs, pair)
        return int(self._ranks[at]) if at < len(self._pairs) and self._pairs[at] == pair else _NEVER
