"""What guesses tokens ahead.  A guess changes no text: it is right exactly when the sampler draws it."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Draft:
    """Tokens that may come next.

    evidence   how much speaks for the first of them; one more for each that follows, if those before it were right.
               For a drafter that looks for repetitions: the tokens that were the same so far
    """

    token_ids: array[int]
    evidence: int


class Drafter(Protocol):
    """Follows one sequence.  Used by one thread."""

    def draft(self, token_ids: array[int], num_max: int) -> Draft | None:
        """What may follow this sequence, which only grows from call to call; None where nothing is known."""
        ...
