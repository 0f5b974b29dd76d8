"""One attempt until its first words: a task that owns the stream, so that giving it up closes the stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Generic

from isochrone.errors import Unreachable

from .exchange import Exchange, Item, Sent
from .faults import broken_off

NUM_HELD_MAX = 4096
"""Items without words that a place may send first: keep-alives, empty deltas, the prompt's own tokens."""


class Attempt(Generic[Item]):
    """held  what came up to and with the first words, which nobody has seen"""

    def __init__(
        self, sent: Sent, stream: AsyncGenerator[Item, None], exchange: Exchange[Item], clock: Callable[[], float],
        timeout_at: float, spoke: Callable[[Sent], None],
    ) -> None:  # fmt: skip
        self.sent, self.stream, self.timeout_at = sent, stream, timeout_at
        self._exchange, self._clock, self._spoke = exchange, clock, spoke
        self.held: list[Item] = []
        self.task = asyncio.ensure_future(self._reach_words())

    async def _reach_words(self) -> None:
        count, tally = self._exchange.count, self.sent.tally
        try:
            async for item in self.stream:
                self.held.append(item)
                if count(item, tally):
                    self.sent.first_at = self.sent.last_at = self._clock()
                    self._spoke(self.sent)
                    return
                if len(self.held) >= NUM_HELD_MAX:
                    raise Unreachable(
                        f"The place {self.sent.target[0]} sent {NUM_HELD_MAX} events without a word.",
                        fix="Ask again, or look at that place's log.",
                    )
            raise broken_off(self.sent.target)
        except BaseException:
            await self.stream.aclose()
            raise

    def close(self) -> asyncio.Future[None] | None:
        """Hang up.  Returns what ends when the stream is closed;  None: it is closed."""
        if not self.task.done():
            self.task.cancel()
            return self.task
        if self.task.cancelled() or self.task.exception() is not None:
            return None
        return asyncio.ensure_future(self.stream.aclose())
