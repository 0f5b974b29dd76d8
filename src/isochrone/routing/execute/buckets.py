"""Allowances that are earned by ordinary requests and spent on extra ones, so that trouble cannot multiply work."""

from __future__ import annotations

from isochrone.routing.records import OutcomeKind, Target

from .settings import Settings

FAILING_WEIGHT = 0.05
"""Of the newest attempt in the share that fails: about the last 20 count."""
DROPPING_WEIGHT = 0.1
"""The same of one place: about the last ten count."""


class Bucket:
    """Holds at most `size`, and is full at first."""

    def __init__(self, size: float) -> None:
        self._size = self.level = size

    def earn(self, share: float) -> None:
        self.level = min(self._size, self.level + share)

    def spend(self) -> bool:
        """Take one; False when there is none."""
        if self.level < 1.0:
            return False
        self.level -= 1.0
        return True


class Allowances:
    """Of one router: hedges of all its requests together, further attempts for each place.

    A place that keeps what it is given takes all that others drop when they die: its own queue and its breaker bound
    that.  One that drops much itself, or has shown nothing yet, takes as many further attempts as it has earned.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._hedges = Bucket(settings.hedge_burst)
        self._retries: dict[str, Bucket] = {}
        self._dropping: dict[str, float] = {}
        self.failing_share = 0.0

    def began(self, target: Target) -> None:
        """A request's first attempt was sent there."""
        self._hedges.earn(self._settings.hedge_share)
        self._bucket(target).earn(self._settings.retry_share)

    def spoke(self, target: Target) -> None:
        """First words came from there."""
        self._saw(target, is_bad=False)

    def ended(self, kind: OutcomeKind, target: Target) -> None:
        """An attempt ended so; one that was given up for no fault of its own says nothing."""
        if kind not in ("cancelled", "hedged_out"):
            is_bad = kind in ("failed", "stalled")
            self.failing_share += FAILING_WEIGHT * (is_bad - self.failing_share)
        if kind in ("failed", "stalled", "refused"):
            self._saw(target, is_bad=True)

    def has_retry(self, target: Target) -> bool:
        is_sound = self._dropping.get(target[0], 1.0) <= self._settings.retry_dropping_max
        return is_sound or self._bucket(target).level >= 1.0

    def spend_retry(self, target: Target) -> bool:
        return self._bucket(target).spend()

    def spend_hedge(self) -> bool:
        return self.failing_share <= self._settings.hedge_failing_max and self._hedges.spend()

    def forget(self, place: str) -> None:
        """The place has left the fleet."""
        self._retries.pop(place, None)
        self._dropping.pop(place, None)

    def _saw(self, target: Target, *, is_bad: bool) -> None:
        share = self._dropping.get(target[0], 1.0)
        self._dropping[target[0]] = share + DROPPING_WEIGHT * (is_bad - share)

    def _bucket(self, target: Target) -> Bucket:
        bucket = self._retries.get(target[0])
        if bucket is None:
            bucket = self._retries[target[0]] = Bucket(self._settings.retry_burst)
        return bucket
