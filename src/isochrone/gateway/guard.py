"""The place behind this server's limits: what a request can cost is reserved before anything is allocated for it.

Every face asks its place through here, so that a limit, a count or a receipt holds for all of them.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, aclosing, contextmanager, nullcontext
from typing import Literal, TypeAlias

import msgspec

from isochrone.budget import Deadline
from isochrone.errors import Overloaded
from isochrone.places.place import Delta, Place, Price, Prompt, Prompted, Request, Status, dearest_usd

from .cost import Cost, cost_of, expect_within
from .limits import Limits
from .rates import Rates
from .spending import Counted, Purse, num_prompt_tokens_max
from .trace import CURRENT, Trace

Events: TypeAlias = AsyncGenerator[Prompted | Delta, None]
TENANT_MARK = "/"
"""Between a key's tenant and one that the gateway behind that key names: the latter's prefixes, the key's limits."""


class Guard:
    """Fulfils `Place`, in front of one.  purse  what keys may spend; None: nothing is counted"""

    def __init__(self, place: Place, limits: Limits, rates: Rates, purse: Purse | None = None) -> None:
        self._place, self._limits, self._rates, self._purse = place, limits, rates, purse
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
        """See `Place.complete`.

        Raises BadRequest, RateLimited, Overloaded, and what `Purse.paying` raises before the place is asked.
        """
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
            events, spent_usd = self._begin(request, deadline)
            async with self.paying(trace, request, spent_usd), aclosing(events):
                async for event in events:
                    used.num_tokens += event.num_tokens
                    if trace is not None:
                        trace.push(event, time.monotonic())
                    yield event

    def _begin(self, request: Request, deadline: Deadline) -> tuple[Events, Callable[[], float]]:
        """(the answer, what it has cost so far): a router keeps account of all that it asks for one answer."""
        begin = getattr(self._place, "begin", None)
        if begin is not None:
            begun: tuple[Events, Callable[[], float]] = begin(request, deadline)
            return begun
        counted = Counted(self._price_of(request.model))
        return counted.counting(self._place.complete(request, deadline)), counted.usd

    def paying(
        self, trace: Trace | None, request: Request, spent_usd: Callable[[], float]
    ) -> AbstractAsyncContextManager[None]:
        """The key's money for one request.  Raises SpendingLimit, SpendingHeld and LedgerDown."""
        if self._purse is None or trace is None:
            return nullcontext()
        return self._purse.paying(trace.key, lambda: self._most_usd(request), spent_usd)

    def _most_usd(self, request: Request) -> float:
        """What it can come to at the dearest place that may answer it."""
        num_prompt = num_prompt_tokens_max(request.prompt)
        most_usd = getattr(self._place, "most_usd", None)
        if most_usd is not None:
            usd: float = most_usd(request.model, num_prompt, request.max_tokens, request.n)
            return usd
        return dearest_usd(
            self._price_of(request.model), self._context(request.model), num_prompt, request.max_tokens, request.n
        )

    def _price_of(self, name: str) -> Price:
        model = next((model for model in self._place.status().models if model.id == name), None)
        return self._place.price if model is None or model.price is None else model.price

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
