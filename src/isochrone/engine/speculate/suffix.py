"""Guesses that a text goes on as it did before: after the longest of its ends that it has had already.

    … the quick brown fox … the quick brown ?          the end "the quick brown" came before: "fox" may follow
        ▲────────────────────────────┘

Every pair of tokens is remembered with the last place it ended at, and each place with the one before (the hash chains
of Ziv & Lempel's coders): two machine words a token, a microsecond to add one, and the nearest places are looked at
first.  A suffix automaton would find the longest end of all; in text that repeats, the nearest 12 places hold it nearly
always.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict

from .drafter import Draft

NUM_PLACES = 12
"""Places looked at for one end."""
NUM_MATCH_MAX = 32
"""Tokens compared; a longer end says no more."""
NUM_INDEXED_MAX = 4096
"""Tokens of a long prompt that are indexed before one step: 2 ms."""
HISTORY_TOKENS = 8192
NUM_TENANTS_MAX = 16
"""Of each tenant the last one or two times HISTORY_TOKENS are kept, some 2 MB; the tenant idle longest is forgotten."""


class SuffixIndex:
    """The places of pairs in a text that grows."""

    def __init__(self) -> None:
        self._last: dict[int, int] = {}
        self._before = array("i", [-1])
        self._num_indexed = 1  # place p is that of the pair of tokens p - 1 and p

    def extend(self, tokens: array[int], num_max: int) -> None:
        """Index what came since; the last token is left out, as an end must not find itself."""
        begin, end = self._num_indexed, min(len(tokens) - 1, self._num_indexed + num_max)
        if begin >= end:
            return
        last, before = self._last, self._before
        left = tokens[begin - 1]
        for place in range(begin, end):
            right = tokens[place]
            pair = left << 32 | right
            before.append(last.get(pair, -1))
            last[pair] = place
            left = right
        self._num_indexed = end

    def find(self, tokens: array[int], end: array[int]) -> tuple[int, int]:
        """(place after the longest match, its length) for the end of a text among these tokens; (-1, 0): none."""
        if len(end) < 2:
            return -1, 0
        place, best, best_length = self._last.get(end[-2] << 32 | end[-1], -1), -1, 0
        for _ in range(NUM_PLACES):
            if place < 0:
                break
            length = 2
            most = min(NUM_MATCH_MAX, place + 1, len(end))
            while length < most and tokens[place - length] == end[-1 - length]:
                length += 1
            if length > best_length:
                best, best_length = place + 1, length
                if length == NUM_MATCH_MAX:
                    break
            place = self._before[place]
        return best, best_length


class TokenHistory:
    """What a tenant was answered lately, in two generations: the younger grows, the elder is dropped for it."""

    def __init__(self) -> None:
        self._generations = [(array("i"), SuffixIndex()), (array("i"), SuffixIndex())]

    def add(self, token_ids: array[int]) -> None:
        """An answer ended."""
        tokens, index = self._generations[0]
        if len(tokens) + len(token_ids) > HISTORY_TOKENS:
            tokens, index = array("i"), SuffixIndex()
            self._generations = [(tokens, index), self._generations[0]]
        tokens.extend(token_ids[-HISTORY_TOKENS:])
        index.extend(tokens, HISTORY_TOKENS)

    def find(self, end: array[int], num_max: int) -> Draft | None:
        """What followed the longest end of a text."""
        best: Draft | None = None
        for tokens, index in self._generations:
            place, length = index.find(tokens, end)
            if length and place < len(tokens) and (best is None or length > best.evidence):
                best = Draft(tokens[place : place + num_max], length)
        return best


class Histories:
    """One history a tenant, so that nobody's answers are guessed from another's."""

    def __init__(self) -> None:
        self._of: OrderedDict[str, TokenHistory] = OrderedDict()

    def of(self, tenant: str) -> TokenHistory:
        """The tenant's history, made when there is none."""
        history = self._of.pop(tenant, None) or TokenHistory()
        self._of[tenant] = history
        if len(self._of) > NUM_TENANTS_MAX:
            self._of.popitem(last=False)
        return history


class SuffixDrafter:
    """Looks in the sequence itself, and where that knows little in the tenant's history.  Fulfils `Drafter`."""

    def __init__(self, history: TokenHistory) -> None:
        self._history, self._index = history, SuffixIndex()
        self._place, self._length, self._num_tokens = -1, 0, 0

    def draft(self, token_ids: array[int], num_max: int) -> Draft | None:
        """See `Drafter.draft`."""
        self._index.extend(token_ids, NUM_INDEXED_MAX)
        self._follow(token_ids)
        if self._length < NUM_MATCH_MAX:
            self._place, self._length = self._index.find(token_ids, token_ids[-NUM_MATCH_MAX:])
        own = None
        if self._length:
            own = Draft(_going_on(token_ids, self._place, num_max), self._length)
        if self._length < NUM_MATCH_MAX // 2:
            other = self._history.find(token_ids[-NUM_MATCH_MAX:], num_max)
            if other is not None and (own is None or other.evidence > own.evidence):
                return other
        return own

    def _follow(self, token_ids: array[int]) -> None:
        """If what followed the last match is what came, the match goes on: no other need be looked for."""
        num_new, at = len(token_ids) - self._num_tokens, self._place
        self._num_tokens = len(token_ids)
        if self._length == NUM_MATCH_MAX and token_ids[at : at + num_new] == token_ids[len(token_ids) - num_new :]:
            self._place += num_new
        else:
            self._place, self._length = -1, 0


def _going_on(tokens: array[int], place: int, num: int) -> array[int]:
    """What comes from this place on, going round where the text ends: so it does if it repeats itself."""
    rest = tokens[place : place + num]
    return rest if len(rest) == num else (rest * (num // len(rest) + 1))[:num]
