"""When a second place is asked beside a silent first one."""

from __future__ import annotations

from isochrone.routing.outlook import Forecast

MARGIN = 0.1
"""A second attempt must be likelier than the first by so much: it costs money and takes another's room."""


def should_hedge(
    forecast: Forecast, first: int, second: int, *, ttft_s: float, silent_s: float, margin: float = MARGIN
) -> bool:
    """Whether to send the request to `second` as well, now that `first` has been silent for so long.

    first, second  indices of the forecast's candidates;  ttft_s: budget of the first token, counted from sending
    """
    still = forecast.p_first_by(first, ttft_s, silent_s)
    return forecast.p_first_by(second, ttft_s - silent_s) > still + margin


def hedge_at_s(forecast: Forecast, first: int, second: int, *, ttft_s: float, margin: float = MARGIN) -> float | None:
    """Seconds of silence after which `should_hedge` first holds; None when it never does within the budget.

    To be asked once, when the request is sent: one timer instead of polling.
    """
    low, high = 0.0, None
    for step in range(1, 17):
        silent_s = ttft_s * step / 16.0
        if should_hedge(forecast, first, second, ttft_s=ttft_s, silent_s=silent_s, margin=margin):
            high = silent_s
            break
        low = silent_s
    if high is None:
        return None
    for _ in range(4):
        middle = 0.5 * (low + high)
        if should_hedge(forecast, first, second, ttft_s=ttft_s, silent_s=middle, margin=margin):
            high = middle
        else:
            low = middle
    return high
