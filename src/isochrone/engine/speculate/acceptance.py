"""How often a guess is right, by how much spoke for it: counted on every token drawn, guessed at or not.

So nothing must be risked to learn it: while a text gives no reason to guess, what would have been guessed is still
compared with what came.
"""

from __future__ import annotations

NUM_CLASSES = 6
PRIOR: tuple[float, ...] = (0.15, 0.3, 0.5, 0.65, 0.8, 0.9)
PRIOR_WEIGHT, MEMORY = 4.0, 0.96
"""What the past of all sequences counts as for a new one, and how much of its own past one keeps at each token."""
SHARED_RATE = 0.02
GAIN_MIN = 0.04
"""No machine verifies a token for less than this share of a step."""
_LIMITS = (2, 3, 5, 8, 16)


def class_of(evidence: int) -> int:
    """2, 3, 4 … 5, 6 … 8, 9 … 16 tokens alike, or more."""
    for number, limit in enumerate(_LIMITS):
        if evidence <= limit:
            return number
    return NUM_CLASSES - 1


_CLASSES = tuple(class_of(evidence) for evidence in range(128))


class SharedAcceptance:
    """Of all sequences: where a new one begins."""

    def __init__(self) -> None:
        self.shares = list(PRIOR)

    def learn(self, number: int, is_right: bool) -> None:
        self.shares[number] += SHARED_RATE * (is_right - self.shares[number])


class Acceptance:
    """Of one sequence."""

    def __init__(self, shared: SharedAcceptance) -> None:
        self._shared = shared
        self._right, self._seen = [0.0] * NUM_CLASSES, [0.0] * NUM_CLASSES

    def share(self, evidence: int) -> float:
        """How likely a token is right for which so much speaks."""
        number = _CLASSES[min(evidence, 127)]
        shared = self._shared.shares[number]
        return (self._right[number] + PRIOR_WEIGHT * shared) / (self._seen[number] + PRIOR_WEIGHT)

    def gains(self, evidence: int, num_tokens: int) -> list[float]:
        """Tokens that each of these guesses is expected to save, as long as any could pay.

        A guess counts only if all before it are right.
        """
        out: list[float] = []
        gain = 1.0
        for at in range(num_tokens):
            gain *= self.share(evidence + at)
            if gain < GAIN_MIN:
                break
            out.append(gain)
        return out

    def learn(self, evidence: int, is_right: bool) -> None:
        """A guess was compared with the token drawn."""
        number = _CLASSES[min(evidence, 127)]
        self._right[number] = MEMORY * self._right[number] + is_right
        self._seen[number] = MEMORY * self._seen[number] + 1.0
        self._shared.learn(number, is_right)
