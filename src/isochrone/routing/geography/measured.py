"""Round trips that were measured: the last few dozen, connections' set-up apart."""

from __future__ import annotations

from collections import deque

from isochrone.routing.records import Quantiles

NUM_KEPT, NUM_ENOUGH = 64, 8
"""Samples remembered, and samples from which they are believed before any table."""


class RoundTrips:
    """Of one way, from here to one place.  What comes in are seconds; what is older than 64 samples is forgotten."""

    def __init__(self) -> None:
        self._rtt_s: deque[float] = deque(maxlen=NUM_KEPT)
        self._connect_s: deque[float] = deque(maxlen=NUM_KEPT)
        self._rtt: Quantiles | None = None

    def observe(self, rtt_s: float) -> None:
        """A request without work went there and came back on a connection that stood."""
        self._rtt_s.append(rtt_s)
        self._rtt = None

    def observe_connect(self, connect_s: float) -> None:
        """A connection was made, TLS included."""
        self._connect_s.append(connect_s)

    @property
    def num(self) -> int:
        return len(self._rtt_s)

    @property
    def rtt(self) -> Quantiles | None:
        """None until there are enough to believe."""
        if self._rtt is None and len(self._rtt_s) >= NUM_ENOUGH:
            self._rtt = quantiles_of(self._rtt_s)
        return self._rtt

    @property
    def connect(self) -> Quantiles | None:
        """None until there are enough to believe."""
        return quantiles_of(self._connect_s) if len(self._connect_s) >= NUM_ENOUGH else None


def quantiles_of(samples: deque[float]) -> Quantiles:
    """Of at least one sample.  A few samples say little of the 99th: there the largest stands."""
    ordered = sorted(samples)
    last = len(ordered) - 1
    p50_s, p90_s, p99_s = (ordered[min(last, int(share * len(ordered)))] for share in (0.5, 0.9, 0.99))
    return Quantiles(p50_s, p90_s, p99_s)
