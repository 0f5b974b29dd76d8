"""What the sequences of a step do beyond their next tokens: guesses, forced tokens, and the masks of their rows.

    guess ──► which tokens may follow, and how many of them pay      (speculate/, over all who draw)
    extend ─► as far as pages, rows and grammar allow; masks for every row that draws
    learn ──► from what was drawn
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING

from isochrone.errors import IsochroneError

from .batch import Work
from .roster import Roster
from .schedule import Limits
from .sequence import Sequence

if TYPE_CHECKING:
    from .speculate import Speculator


class Guesser:
    """Used by the engine's thread.

    forces, drafts   see EngineLimits
    """

    def __init__(self, roster: Roster, limits: Limits, *, forces: bool, drafts: bool) -> None:
        self._roster, self._limits, self._forces, self._drafts = roster, limits, forces, drafts

    @cached_property
    def _speculator(self) -> Speculator:
        """Made after the first token, which does not wait for it."""
        from .speculate import Speculator

        return Speculator()

    def guess(self, decoding: list[Sequence], works: list[Work]) -> dict[int, list[int]]:
        """Tokens guessed for some of those who draw, by the numbers of the sequences."""
        if not self._drafts:
            return {}
        drawing = decoding + [work.sequence for work in works if work.draws and work.sequence.standing.has_begun]
        room = self._num_pages_spare() * self._limits.page_tokens
        if not drawing:
            return {}
        from .speculate import Candidate

        sequences, candidates = [], []
        for sequence in drawing:
            num_max = min(sequence.num_guessable(), self._num_paged(sequence) + room)
            if num_max <= 0 or not sequence.request.submit.drafts:
                continue
            if sequence.followed is None:
                sequence.followed = self._speculator.follow(sequence.request.submit.tenant)
            sequences.append(sequence)
            candidates.append(Candidate(sequence.followed, sequence.token_ids, num_max))
        if not candidates:
            return {}
        num_max = self._num_bearable(drawing) - sum(work.num_tokens for work in works)
        guesses = self._speculator.guess(candidates, len(drawing), num_max)
        return {s.standing.id: guess for s, guess in zip(sequences, guesses, strict=True) if guess}

    def extend(
        self, works: list[Work], guesses: dict[int, list[int]]
    ) -> tuple[list[Work], list[tuple[Sequence, IsochroneError]]]:
        """The works with drafts and masks, and who fails here, with the reason."""
        num_left = min(
            self._limits.num_step_tokens - sum(work.num_tokens for work in works),
            self._limits.num_rows_max - sum(work.num_rows for work in works),
        )
        kept: list[Work] = []
        failed: list[tuple[Sequence, IsochroneError]] = []
        for work in works:
            guess = guesses.get(work.sequence.standing.id, [])
            if work.draws and (guess or work.sequence.grammar is not None):
                try:
                    self._extend(work, guess, num_left)
                except IsochroneError as error:
                    failed.append((work.sequence, error))
                    continue
                num_left -= len(work.drafts)
            kept.append(work)
        return kept, failed

    def learn(self, sequence: Sequence, drawn: list[int]) -> None:
        """These tokens were drawn for it, guessed or not."""
        if sequence.followed is not None:
            self._speculator.learn(sequence.followed, drawn)

    def learn_step(self, num_tokens: int, step_s: float) -> None:
        """A step in which every token had a row that draws took so long."""
        if self._drafts:
            self._speculator.cost.learn(num_tokens, step_s)

    def finish(self, sequence: Sequence) -> None:
        """It has ended."""
        if sequence.followed is not None:
            self._speculator.finish(sequence.request.submit.tenant, sequence.token_ids[sequence.num_prompt :])

    def _extend(self, work: Work, guess: list[int], num_left: int) -> None:
        sequence = work.sequence
        room = self._num_paged(sequence) + self._num_pages_spare() * self._limits.page_tokens
        num_max = max(0, min(num_left, sequence.num_guessable(), room))
        if sequence.grammar is None:
            work.drafts = guess[:num_max]
        else:
            from isochrone.text.grammar_closing import num_closing

            num_free = sequence.num_answer_max - num_closing(sequence.num_answer_max) - sequence.num_answer
            walk = sequence.grammar.walk(guess, num_max, forces=self._forces, num_free=num_free)
            work.drafts, work.masks = walk.tokens, walk.masks
        standing = sequence.standing
        while standing.num_pages * self._limits.page_tokens < standing.num_tokens + len(work.drafts):
            self._roster.grow(sequence)

    def _num_paged(self, sequence: Sequence) -> int:
        """Positions after its last token that have a page."""
        return sequence.standing.num_pages * self._limits.page_tokens - sequence.standing.num_tokens

    def _num_pages_spare(self) -> int:
        """Pages that a guess may take: not the one that each who runs needs next."""
        return max(0, self._roster.cache.pool.num_available - len(self._roster.running))

    def _num_bearable(self, drawing: list[Sequence]) -> int:
        """Tokens that may be guessed in a step, within its limits and the tightest time between tokens stated."""
        num_max = min(self._limits.num_step_tokens, self._limits.num_rows_max) - len(drawing)
        itl_s = min(sequence.standing.itl_s for sequence in drawing)
        if itl_s == math.inf:
            return num_max
        cost, num = self._speculator.cost, 0
        while num < num_max and cost.base_s * cost.ratio(len(drawing) + num + 1) <= itl_s:
            num += 1
        return num
