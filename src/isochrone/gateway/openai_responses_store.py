"""Where answers of `/v1/responses` are kept: what a store must do, and one that keeps them in memory, within bounds.

The server keeps them in the ledger, which outlives the process; memory serves tests and servers without a ledger.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

RESPONSE_TTL_S = 30 * 24 * 3600.0
"""Thirty days, as long as OpenAI documents to keep a stored answer."""
NUM_RESPONSES_MAX = 1024
STORE_BYTES_MAX = 64 * 1024 * 1024


class ResponseStore(Protocol):
    """Keeps bodies by id for their owner.  A foreign id, an unknown one and an expired one look the same: None.

    A store has a bound for each owner, and forgets that owner's oldest when it is full; no owner can push out
    another's.
    """

    async def put(self, owner: str, id: str, body: bytes, ttl_s: float) -> None:
        """Keep it, or put it in place of what this owner kept under that id.

        `get` gives it as soon as this returns, although it may reach the disk later.  Raises nothing for a full store.
        """
        ...

    async def get(self, owner: str, id: str) -> bytes | None: ...

    async def delete(self, owner: str, id: str) -> bool:
        """Whether there was something to delete."""
        ...


class MemoryResponses:
    """A `ResponseStore` that lasts as long as the process.

    now  the clock, seconds
    """

    def __init__(
        self,
        *,
        num_max: int = NUM_RESPONSES_MAX,
        bytes_max: int = STORE_BYTES_MAX,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._num_max, self._bytes_max, self._now = num_max, bytes_max, now
        self._kept: dict[str, OrderedDict[str, tuple[float, bytes]]] = {}

    async def put(self, owner: str, id: str, body: bytes, ttl_s: float) -> None:
        kept = self._kept.setdefault(owner, OrderedDict())
        kept.pop(id, None)
        kept[id] = (self._now() + ttl_s, body)
        size = sum(len(body) for _, body in kept.values())
        while len(kept) > self._num_max or (size > self._bytes_max and len(kept) > 1):
            _, (_, oldest) = kept.popitem(last=False)
            size -= len(oldest)

    async def get(self, owner: str, id: str) -> bytes | None:
        expires_at, body = self._kept.get(owner, {}).get(id, (0.0, b""))
        if expires_at > self._now():
            return body
        await self.delete(owner, id)
        return None

    async def delete(self, owner: str, id: str) -> bool:
        kept = self._kept.get(owner, OrderedDict())
        expires_at, _ = kept.pop(id, (0.0, b""))
        if not kept:
            self._kept.pop(owner, None)
        return expires_at > self._now()
