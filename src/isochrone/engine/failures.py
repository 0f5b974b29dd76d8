"""Why one sequence had to leave while the others went on."""

from __future__ import annotations

from isochrone.errors import SequenceFailed

NUM_LOSSES_MAX = 16
"""A sequence whose cache was lost more often than this fails: the runtime under it does not hold."""


def not_finite() -> SequenceFailed:
    """Its logits, keys or values were not finite."""
    return SequenceFailed(
        "The model gave numbers that are not finite for this sequence; the others went on.",
        fix="Send the request again; if it fails again, the weights or their quantisation are broken.",
    )


def lost_too_often() -> SequenceFailed:
    """The runtime lost its cache again and again."""
    return SequenceFailed(
        f"The cache of this sequence was lost {NUM_LOSSES_MAX + 1} times.",
        fix="Look at the machines of this site: one of them keeps leaving.",
    )


def raised_alone(error: Exception) -> SequenceFailed:
    """A step that held only this sequence raised."""
    return SequenceFailed(
        f"The step of this sequence alone raised {type(error).__name__}: {error}",
        fix="Send the request again; if it fails again, report it with the model's name and the prompt.",
    )
