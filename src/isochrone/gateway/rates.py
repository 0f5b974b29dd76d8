"""What each key may use: requests and tokens in a minute, and requests at once.

A bucket refills evenly and holds one minute's worth.  Tokens are taken before the work, as many as it can cost at
most, and what was not used is given back after it: many callers at once cannot overspend together.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

from isochrone.ledger.keys import Key

from .faults import RateLimited

MINUTE_S = 60.0
Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Bucket:
    """level  what is left, at the instant `at`; below zero when something cost more than it was thought to"""

    level: float
    at: float


def refill(bucket: Bucket, per_min: int, now: float) -> Bucket:
    """The bucket as it is now."""
    return Bucket(min(per_min, bucket.level + (now - bucket.at) * per_min / MINUTE_S), now)


def wait_s(bucket: Bucket, need: float, per_min: int) -> float:
    """Seconds until it holds what is needed; 0 when it does."""
    return max(0.0, (need - bucket.level) * MINUTE_S / per_min)


@dataclass(slots=True)
class _Use:
    """One key's.  Belongs to `Rates`."""

    key: Key
    requests: Bucket
    tokens: Bucket
    num_running: int = 0


class Rates:
    """All keys' use.  Instants come from the caller."""

    def __init__(self) -> None:
        self._uses: dict[str, _Use] = {}

    def admit(self, key: Key, now: float) -> None:
        """Take one request of this key; `release` it when it is over.  Raises RateLimited."""
        use = self._use(key, now)
        if key.num_concurrent is not None and use.num_running >= key.num_concurrent:
            raise RateLimited(
                f"{use.num_running} requests of the key {key.name} are running, as many as it may have.",
                fix="Wait until one is over.", retry_after_s=1.0,
            )  # fmt: skip
        if key.requests_per_min is not None:
            use.requests = refill(use.requests, key.requests_per_min, now)
            if late_s := wait_s(use.requests, 1, key.requests_per_min):
                raise RateLimited(
                    f"The key {key.name} has sent its {key.requests_per_min} requests of this minute.",
                    fix="Send them more slowly.", retry_after_s=late_s,
                )  # fmt: skip
            use.requests = replace(use.requests, level=use.requests.level - 1)
        use.num_running += 1

    def release(self, key: Key, now: float) -> None:
        """A request is over."""
        use = self._uses[key.tenant]
        use.num_running -= 1
        if not use.num_running and self._is_full(use, now):
            del self._uses[key.tenant]

    def reserve(self, tenant: str, num_tokens: int, now: float) -> int:
        """Take tokens for a request that was admitted.  Returns how many; `settle` them.  Raises RateLimited."""
        use = self._uses.get(tenant)
        if use is None or use.key.tokens_per_min is None:
            return 0
        per_min = use.key.tokens_per_min
        use.tokens = refill(use.tokens, per_min, now)
        need = min(num_tokens, per_min)  # what can cost more than a minute's worth waits for a full bucket
        if late_s := wait_s(use.tokens, need, per_min):
            raise RateLimited(
                f"This request can cost {num_tokens} tokens, and the key {use.key.name} has "
                f"{max(0, int(use.tokens.level))} of its {per_min} a minute left.",
                fix="Lower max_tokens, or ask again later.", retry_after_s=late_s,
            )  # fmt: skip
        use.tokens = replace(use.tokens, level=use.tokens.level - need)
        return need

    def settle(self, tenant: str, reserved: int, used: int, now: float) -> None:
        """Give back what was taken and not used, or take what was used beyond it."""
        use = self._uses.get(tenant)
        if use is not None and use.key.tokens_per_min is not None:
            use.tokens = refill(use.tokens, use.key.tokens_per_min, now)
            use.tokens = replace(use.tokens, level=use.tokens.level + reserved - used)

    def headers(self, key: Key, now: float) -> Headers:
        """What is left, named as OpenAI names it; nothing for what is not limited."""
        use, out = self._use(key, now), []
        for what, bucket, per_min in (
            (b"requests", use.requests, key.requests_per_min),
            (b"tokens", use.tokens, key.tokens_per_min),
        ):
            if per_min is not None:
                bucket = refill(bucket, per_min, now)
                out += [
                    (b"x-ratelimit-limit-" + what, b"%d" % per_min),
                    (b"x-ratelimit-remaining-" + what, b"%d" % max(0, int(bucket.level))),
                    (b"x-ratelimit-reset-" + what, b"%dms" % ceil(1000 * wait_s(bucket, per_min, per_min))),
                ]
        return out

    def _use(self, key: Key, now: float) -> _Use:
        use = self._uses.get(key.tenant)
        if use is None:
            full = (Bucket(key.requests_per_min or 0, now), Bucket(key.tokens_per_min or 0, now))
            use = self._uses[key.tenant] = _Use(key, *full)
        use.key = key
        return use

    def _is_full(self, use: _Use, now: float) -> bool:
        """Whether forgetting it would change nothing.  Tokens may be taken in the background, after the release."""
        per_min = use.key.requests_per_min
        has_all = per_min is None or refill(use.requests, per_min, now).level >= per_min
        return has_all and use.key.tokens_per_min is None
