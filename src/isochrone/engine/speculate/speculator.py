"""Guesses for the sequences of a step, and learns from what was drawn."""

from __future__ import annotations

from array import array
from collections.abc import Sequence as ListLike
from dataclasses import dataclass

from .acceptance import Acceptance, SharedAcceptance
from .choice import choose_lengths
from .cost import VerifyCost
from .drafter import Draft, Drafter
from .suffix import Histories, SuffixDrafter

NUM_GUESSED_MAX = 16
NUM_DRAFTED_STEPS = 32
"""Steps with guesses in a row; then one without, so that the price of a step without is still known."""


@dataclass(slots=True)
class Followed:
    """What is known of one sequence.  draft: what may come next, not yet compared with what came"""

    drafter: Drafter
    acceptance: Acceptance
    draft: Draft | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sequence that draws in this step.

    num_max  most tokens that may be guessed for it
    """

    followed: Followed
    token_ids: array[int]
    num_max: int


class Speculator:
    """Used by the engine's thread."""

    def __init__(self) -> None:
        self.cost = VerifyCost()
        self._shared, self._histories = SharedAcceptance(), Histories()
        self._num_drafted_steps = 0

    def follow(self, tenant: str) -> Followed:
        """Begin with a sequence."""
        return Followed(SuffixDrafter(self._histories.of(tenant)), Acceptance(self._shared))

    def guess(self, candidates: ListLike[Candidate], num_drawing: int, num_max: int) -> list[list[int]]:
        """Tokens guessed for each of these; at most num_max in all.

        num_drawing  sequences that draw in this step, these among them
        """
        gains = [self._gains(candidate) for candidate in candidates]
        if num_max <= 0 or not any(gains) or self._must_measure():
            return [[] for _ in candidates]
        lengths = choose_lengths(gains, num_drawing, self.cost.ratio, num_max)
        self._num_drafted_steps = self._num_drafted_steps + 1 if any(lengths) else 0
        return [
            list(candidate.followed.draft.token_ids[:length]) if candidate.followed.draft is not None else []
            for candidate, length in zip(candidates, lengths, strict=True)
        ]

    def learn(self, followed: Followed, drawn: ListLike[int]) -> None:
        """These tokens were drawn for a sequence, whatever was guessed of them."""
        if followed.draft is None:
            return
        draft, followed.draft = followed.draft, None
        for at, (guess, token) in enumerate(zip(draft.token_ids, drawn, strict=False)):
            followed.acceptance.learn(draft.evidence + at, guess == token)
            if guess != token:
                return

    def finish(self, tenant: str, answer_ids: array[int]) -> None:
        """A sequence has ended; what was answered may be said again to the same tenant."""
        self._histories.of(tenant).add(answer_ids)

    def _gains(self, candidate: Candidate) -> list[float]:
        """Looks for a draft, and says what each of its tokens is expected to save."""
        followed = candidate.followed
        draft = followed.draft = followed.drafter.draft(candidate.token_ids, NUM_GUESSED_MAX)
        if draft is None:
            return []
        return followed.acceptance.gains(draft.evidence, min(candidate.num_max, len(draft.token_ids)))

    def _must_measure(self) -> bool:
        if self._num_drafted_steps < NUM_DRAFTED_STEPS:
            return False
        self._num_drafted_steps = 0
        return True
