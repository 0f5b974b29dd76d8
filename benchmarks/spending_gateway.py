"""A gateway as `benchmarks.spending` starts and kills it: requests that cost money, and nothing else.

    python -m benchmarks.spending_gateway WHERE NAME NUM_REQUESTS NUM_AT_ONCE BEAT_S

On stdout, a line each: `cost TENANT NANO` as soon as a request has cost something, `done TENANT NANO` once that is
acknowledged (committed), `no TENANT` for a request that the limit refused; at the end `waits` and what reserving took.
A pipe keeps what was written to it when its writer is killed.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from pathlib import Path

from isochrone.errors import LedgerDown, SpendingHeld, SpendingLimit
from isochrone.ledger import Key, Ledger, Patience
from isochrone.ledger.money import usd_of

MOST_NANO = 2000
"""What a request may cost; it costs anything from nothing to this."""
RETRY_S = 0.02


def say(*words: object) -> None:
    """One line, whole, at once."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


class Load:
    """So many requests of random keys, some of them at once."""

    def __init__(self, ledger: Ledger, keys: list[Key], name: str, num_requests: int, draw: random.Random) -> None:
        self._ledger, self._keys, self._name, self._draw = ledger, keys, name, draw
        self._numbers = iter(range(num_requests))
        self.waits_s: list[float] = []

    async def run(self, num_at_once: int) -> None:
        async with asyncio.TaskGroup() as tasks:
            keeping = tasks.create_task(self._ledger.spending.keep())
            callers = [tasks.create_task(self._call()) for _ in range(num_at_once)]
            await asyncio.gather(*callers)
            keeping.cancel()

    async def _call(self) -> None:
        """One caller after another, each waiting until its last request is acknowledged."""
        for number in self._numbers:
            key = self._draw.choice(self._keys)
            if await self._request(key, f"{self._name}-{number}") is False:
                say("no", key.tenant)

    async def _request(self, key: Key, id: str) -> bool:
        """False when the limit refused it."""
        while True:
            began_at = time.perf_counter()
            try:
                hold = await self._ledger.spending.reserve(key, id, usd_of(MOST_NANO))
                break
            except SpendingLimit:
                return False
            except (SpendingHeld, LedgerDown):
                await asyncio.sleep(RETRY_S)
        self.waits_s.append(time.perf_counter() - began_at)
        assert hold is not None, "every key here has a limit"
        await asyncio.sleep(0)  # other requests come between
        nano = self._draw.randint(0, MOST_NANO)
        say("cost", key.tenant, nano)
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def acknowledge() -> None:
            say("done", key.tenant, nano)
            loop.call_soon_threadsafe(done.set)

        self._ledger.spending.settle(hold, usd_of(nano), acknowledge)
        await done.wait()
        return True


def main() -> None:
    where, name, num_requests, num_at_once, beat_s = sys.argv[1:]
    patience = Patience(float(beat_s), 4 * float(beat_s), 8 * float(beat_s))
    ledger = Ledger(where if "://" in where else Path(where), patience=patience)
    ledger.open(time.monotonic())
    keys = [key for key in ledger.keys.all() if key.has_spending_limit]
    load = Load(ledger, sorted(keys, key=lambda key: key.name), name, int(num_requests), random.Random(name))
    asyncio.run(load.run(int(num_at_once)))
    ledger.close(30.0)
    waits_s = sorted(load.waits_s)
    if waits_s:
        say("waits", *(f"{waits_s[int(share * (len(waits_s) - 1))] * 1e6:.1f}" for share in (0.5, 0.99, 1.0)))


if __name__ == "__main__":
    main()
