"""What an engine of ours takes, from what it has learned of its own steps: known before the first request is sent."""

from __future__ import annotations

from isochrone.places.place import Pace
from isochrone.predict.blackbox import Prior

NUM_ATTENDED = 512
"""Positions that a token attends in a prompt or an answer of middling length."""
SPREAD = 0.3
"""Standard deviation of the logarithm: a place whose steps are measured is known to a third."""


def prior_of(pace: Pace, num_slots: int = 0) -> Prior:
    """One step reads a chunk of the prompt, or gives each running request a token.

    num_slots  requests that run at once, others wait;  0: not said
    """
    attended_s = pace.pair_s * NUM_ATTENDED
    beside_s = (pace.token_s + pace.row_s + attended_s) * pace.decode_off
    return Prior(
        start_s=max(1e-4, pace.constant_s + pace.row_s),
        prompt_s=max(1e-9, (pace.token_s + 0.5 * attended_s) * pace.prompt_off),
        request_s=max(1e-9, beside_s),
        itl_s=max(1e-5, pace.constant_s * pace.decode_off + beside_s),
        itl_request_s=max(1e-9, beside_s),
        spread=SPREAD,
        slots=num_slots or None,
    )
