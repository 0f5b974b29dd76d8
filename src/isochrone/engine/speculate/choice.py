"""How many tokens to guess for each sequence: one pure function."""

from __future__ import annotations

from collections.abc import Callable, Sequence

MARGIN = 1.05
"""Guess only where this much more is expected for the time: the prices are measured, not exact, and a step with guesses
takes 50 microseconds more to prepare."""


def choose_lengths(
    gains: Sequence[Sequence[float]], num_decoding: int, ratio: Callable[[int], float], num_max: int
) -> list[int]:
    """Guesses for each sequence, so that a step gives the most tokens for its time; at most num_max in all.

    gains   by sequence: tokens that its first, second … guess is expected to save, never more than the one before
    ratio   what a step of so many tokens takes, in any unit
    """
    lengths = [0] * len(gains)
    if num_decoding + sum(map(sum, gains)) <= MARGIN * num_decoding:
        return lengths  # not even if they cost nothing
    ranked = sorted(
        ((gain, -at, sequence) for sequence, row in enumerate(gains) for at, gain in enumerate(row)), reverse=True
    )  # the order within a sequence is kept, as no guess gains more than the one before it
    expected, best = float(num_decoding), MARGIN * num_decoding / ratio(num_decoding)
    chosen = 0
    for number, (saved, _, _) in enumerate(ranked[:num_max], 1):
        expected += saved
        rate = expected / ratio(num_decoding + number)
        if rate > best:
            best, chosen = rate, number
    for _, _, sequence in ranked[:chosen]:
        lengths[sequence] += 1
    return lengths
