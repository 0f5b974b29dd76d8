"""A sequence's place in its grammar: the mask of its next token, and the tokens that are forced.

    free ──push──► free                   the mask says which tokens may come
      │
      └──push──► forced f1 f2 f3 ──push f1──► forced f2 f3 ──► … ──► free

Where the text leaves no choice, the tokens of that text are the answer, in the model's usual way of cutting it.  They
are found once, at the place where the choice ends, and followed to the last; so the text is the same whether they are
emitted at once or drawn one by one under a mask of one bit.  Everything here is a function of the tokens so far, so
that a preempted or resumed sequence goes on as it would have.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from isochrone.runtime.step import U32

if TYPE_CHECKING:
    from isochrone.text.grammar import Matcher


@dataclass(frozen=True, slots=True)
class Walk:
    """Tokens that may follow one another, guessed or forced, and a mask for each of them and for the one after.

    num_forced  of the tokens, those that are forced given the ones before
    """

    tokens: list[int]
    masks: list[U32]
    num_forced: int = 0


class GrammarState:
    """One sequence's.  `forced` are the tokens that must come next, in order."""

    def __init__(self, matcher: Matcher, answer_ids: Iterable[int] = ()) -> None:
        """At the start, or after an answer begun elsewhere.  Raises BadGrammar, as everything here does."""
        self._matcher = matcher
        self.forced: list[int] = []
        self._look()
        for token in answer_ids:
            self.push(token)

    @property
    def is_over(self) -> bool:
        """The answer is complete, and nothing can be added to it."""
        return not self.forced and self._matcher.is_over

    def push(self, token: int) -> None:
        """The token joined the answer."""
        self._matcher.push(token)
        if self.forced and self.forced[0] == token:
            del self.forced[0]
        else:
            self.forced = []  # an answer begun elsewhere may have been cut in another way
        self._look()

    def walk(
        self, guesses: Sequence[int], num_max: int, *, forces: bool = True, num_free: int = 1 << 62
    ) -> Walk:
        """Follow the guesses as far as the grammar does, with the forced tokens between them, at most num_max in all.

        forces    False: of what is forced only the very next token is looked at, and none is added
        num_free  tokens until the answer, if it is JSON, is to be brought to its end
        """
        tokens: list[int] = []
        masks: list[U32] = []
        forced, num_forced, guesses = list(self.forced), 0, list(guesses)
        try:
            while True:
                masks.append(self._one(forced[0]) if forced else self._mask(num_free - len(tokens)))
                if len(tokens) == num_max:
                    break
                if forced and forces:
                    token, forced = forced[0], forced[1:]
                    guesses = guesses[1:] if guesses[:1] == [token] else []
                    num_forced += 1
                elif guesses and masks[-1][guesses[0] >> 5] >> np.uint32(guesses[0] & 31) & np.uint32(1):
                    token, guesses, forced = guesses[0], guesses[1:], forced[1:]
                else:
                    break
                self._matcher.push(token)
                tokens.append(token)
                if self._matcher.is_over:
                    masks.append(self._matcher.mask())
                    break
                forced = forced or self._matcher.forced()
        finally:
            self._matcher.pop(len(tokens))
        return Walk(tokens, masks, num_forced)

    def _look(self) -> None:
        if not self.forced and not self._matcher.is_over:
            self.forced = self._matcher.forced()

    def _mask(self, num_free: int) -> U32:
        return self._matcher.mask() if num_free > 0 else self._matcher.closing_mask()

    def _one(self, token: int) -> U32:
        words = np.zeros(self._matcher.num_words, np.uint32)
        words[token >> 5] = 1 << (token & 31)
        return words
