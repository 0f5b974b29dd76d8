"""The place behind this server's limits: what a request can cost is reserved before anything is allocated for it.

Every face asks its place through here, so that a limit, a count or a receipt holds for all of them.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from typing import Literal

import msgspec

from isochrone.budget import Deadline
from isochrone.errors import Overloaded
from isochrone.places.place import Delta, Place, Price, Prompt, Prompted, Request, Status

from .cost import Cost, cost_of, expect_within
from .limits import Limits
from .rates import Rates
from .trace import CURRENT

TENANT_MARK = "/"
"""Between a key's tenant and one that the gateway behind that key names: the latter's prefixes, the key's limits."""


class Guard:
    """Fulfils `Place`, in front of one."""

    def __init__(self, place: Place, limits: Limits, rates: Rates) -> None:
        self._place, self._limits, self._rates = place, limits, rates
        self.reserved_bytes = 0

    @property
    def name(self) -> str:
        return self._place.name

    @property
    def price(self) -> Price:
        return self._place.price

    @property
    def location(self) -> str:
        return self._place.location

    @property
    def continues(self) -> Literal["exactly", "roughly", "no"]:
        return self._place.continues

    def status(self) -> Status:
        return self._place.status()

    def identify(self) -> None:
        """Make the place find out which models elsewhere are the same as its own, where it can; `status` says it."""
        find_out = getattr(self._place, "identify", None)
        if find_out is not None:
            find_out()

    async def tokenize(self, prompt: Prompt) -> list[int]:
        return await self._place.tokenize(prompt)

    async def detokenize(self, ids: list[int]) -> str:
        return await self._place.detokenize(ids)

    async def close(self) -> None:
        await self._place.close()

    async def complete(self, request: Request, deadline: Deadline) -> AsyncGenerator[Prompted | Delta, None]:
        """See `Place.complete`.  Raises BadRequest, RateLimited and Overloaded before the place is asked."""
        cost = cost_of(request, self._context(request.model))
        expect_within(request, cost, self._limits)
        trace = CURRENT.get()
        if trace is not None:
            trace.begin(request, deadline)
            if trace.with_receipts and not request.with_receipt:
                request = msgspec.structs.replace(request, with_receipt=True)
            if trace.run and not request.run:
                request = msgspec.structs.replace(request, run=trace.run)
        with self.reserving(request.tenant.partition(TENANT_MARK)[0], cost) as used:
            async with aclosing(self._place.complete(request, deadline)) as events:
                async for event in events:
                    used.num_tokens += event.num_tokens
                    if trace is not None:
                        trace.push(event, time.monotonic())
                    yield event

    def _context(self, name: str) -> int | None:
        return next((model.context for model in self._place.status().models if model.id == name), None)

    @contextmanager
    def reserving(self, tenant: str, cost: Cost) -> Iterator[Used]:
        """Memory and tokens for one request.  Raises RateLimited and Overloaded."""
        with self._memory(cost), self._tokens(tenant, cost) as used:
            yield used

    @contextmanager
    def _memory(self, cost: Cost) -> Iterator[None]:
        if self.reserved_bytes + cost.num_bytes > self._limits.reserved_bytes:
            raise Overloaded(
                f"The requests being answered may need {self.reserved_bytes:,} bytes, and this one {cost.num_bytes:,}: "
                f"together more than the {self._limits.reserved_bytes:,} that this server reserves.",
                fix="Lower n, max_tokens or the number of logprobs, or ask again later.", retry_after_s=1.0,
            )  # fmt: skip
        self.reserved_bytes += cost.num_bytes
        try:
            yield
        finally:
            self.reserved_bytes -= cost.num_bytes

    @contextmanager
    def _tokens(self, tenant: str, cost: Cost) -> Iterator[Used]:
        reserved = self._rates.reserve(tenant, cost.num_tokens, time.monotonic())
        used = Used()
        try:
            yield used
        finally:
            self._rates.settle(tenant, reserved, used.num_tokens, time.monotonic())


class Used:
    """What a request has used of what was reserved for it."""

    num_tokens = 0
