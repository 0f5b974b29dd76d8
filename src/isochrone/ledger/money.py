"""Money inside: whole billionths of a US dollar, so that sums are exact; a token costs some dozens of them."""

from __future__ import annotations

from math import ceil

NANO = 1_000_000_000
MOST_USD = 1e9
"""Sums up to this, and many of them together, fit 64 bits."""


def nano_of(usd: float) -> int:
    """The least whole number that is not less, but for the noise of the float: 0.3 is 300,000,000 and no more."""
    return ceil(usd * NANO - 1e-4)


def usd_of(nano: int) -> float:
    """For people, and for what reckons in dollars."""
    return nano / NANO
