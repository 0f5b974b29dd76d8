"""What a key may spend: the most that a request can cost is taken from its money before a place is asked.

What it did cost is settled when it is over, however it ends.  A request that costs nothing, and a key without such a
limit, pass without a look at the ledger.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING

import msgspec

from isochrone.places.place import Chat, Delta, Price, Prompt, Prompted, Text, TokenIds

if TYPE_CHECKING:
    from isochrone.ledger import Key, Ledger

BYTES_PER_TOKEN = 2
"""Fewer than tokens hold in any language that a tokenizer was made for: what is guessed must not be too little."""
TURN_TOKENS = 8
_DRAW = random.SystemRandom()


class Purse:
    """The money of all keys.  ledger  that keeps it"""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    @asynccontextmanager
    async def paying(
        self, key: Key | None, most_usd: Callable[[], float], spent_usd: Callable[[], float]
    ) -> AsyncIterator[None]:
        """Around whatever asks a place.

        most_usd   what it can come to, asked for before;  spent_usd: what it came to, asked for after
        Raises SpendingLimit, SpendingHeld and LedgerDown before anything is asked.
        """
        usd = most_usd() if key is not None and key.has_spending_limit else 0.0
        if key is None or usd <= 0.0:
            yield
            return
        spending = self._ledger.spending
        hold = await spending.reserve(key, f"{_DRAW.getrandbits(128):032x}", usd)
        try:
            yield
        finally:
            if hold is not None:
                spending.settle(hold, spent_usd())


def num_prompt_tokens_max(prompt: Prompt) -> int:
    """No fewer than any place will count."""
    match prompt:
        case TokenIds(ids):
            return len(ids)
        case Text(text):
            return len(text.encode()) // BYTES_PER_TOKEN + 1
        case Chat(messages, tools=tools):
            said = [message.content for message in messages] + [
                msgspec.json.encode(call).decode() for message in messages for call in message.tool_calls
            ]
            size = sum(len(text.encode()) for text in said) + sum(len(msgspec.json.encode(tool)) for tool in tools)
            return size // BYTES_PER_TOKEN + TURN_TOKENS * (len(messages) + 1)


class Counted:
    """What one place's answer costs by its own count, where nobody else keeps account."""

    def __init__(self, price: Price) -> None:
        self._price = price
        self._num_prompt = self._num_answer = 0

    async def counting(self, events: AsyncGenerator[Prompted | Delta, None]) -> AsyncGenerator[Prompted | Delta, None]:
        """The same events."""
        async with aclosing(events):
            async for event in events:
                self._push(event)
                yield event

    def _push(self, event: Prompted | Delta) -> None:
        if isinstance(event, Prompted):
            self._num_prompt += event.num_tokens
            return
        self._num_answer += event.num_tokens
        if event.usage is not None:
            self._num_prompt, self._num_answer = event.usage.num_prompt, event.usage.num_answer

    def usd(self) -> float:
        price = self._price
        prompt_usd = self._num_prompt * price.prompt_usd_per_million
        return (prompt_usd + self._num_answer * price.completion_usd_per_million) / 1e6
