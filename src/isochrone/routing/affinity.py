"""Which place probably holds how much of a prompt: hashes of the prompt's beginnings, per place and tenant.

A place's cache is nobody's to look into; what was sent there lately is known.  How far that can be trusted is learned
from the cached tokens that a place reports.  Tenants are kept apart: none can tell another's prompt from its timings.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from isochrone.places.place import Chat, Prompt, Text, TokenIds

from .records import Target

BLOCK_CHARS, NUM_BLOCKS_MAX = 512, 512
NUM_KEPT_MAX = 1 << 16
KEEP_S = 600.0
"""Caches of providers forget within five to ten minutes."""
TRUST_AT_FIRST, NEWEST_WEIGHT = 0.5, 0.2


def prompt_text(prompt: Prompt) -> str:
    """A prompt as one text that begins alike wherever prompts do; tools come first, as templates put them."""
    if isinstance(prompt, Text):
        return prompt.text
    if isinstance(prompt, TokenIds):
        return " ".join(map(str, prompt.ids))
    return _chat_text(prompt)


def _chat_text(chat: Chat) -> str:
    parts = [f"{tool.name}\x1e{tool.description}\x1e{tool.parameters}" for tool in chat.tools]
    for message in chat.messages:
        parts.append(f"{message.role}\x1e{message.content}")
        parts += [f"{call.name}\x1e{call.arguments}" for call in message.tool_calls]
    return "\x1d".join(parts)


def beginnings(tenant: str, text: str) -> list[int]:
    """A hash for each beginning of whole blocks, the shortest first.  Good in this process alone."""
    chain, found = hash((tenant, "prefix")), []
    for begin in range(0, min(len(text), BLOCK_CHARS * NUM_BLOCKS_MAX) - BLOCK_CHARS + 1, BLOCK_CHARS):
        chain = hash((chain, text[begin : begin + BLOCK_CHARS]))
        found.append(chain)
    return found


class Affinity:
    """What was sent where.  Holds at most `num_kept` beginnings and forgets the longest unused ones."""

    def __init__(self, num_kept: int = NUM_KEPT_MAX) -> None:
        self._num_kept = num_kept
        self._holders: OrderedDict[int, dict[Target, float]] = OrderedDict()
        self._trust: dict[Target, float] = {}

    def num_cached_chars(self, chain: Sequence[int], now: float) -> dict[Target, float]:
        """Characters of that prompt which each target probably holds; targets that hold none are left out."""
        depths: dict[Target, int] = {}
        for depth, key in enumerate(chain):
            holders = self._holders.get(key)
            if holders is None:
                break
            for target, at in holders.items():
                if now - at <= KEEP_S and depths.get(target, 0) == depth:
                    depths[target] = depth + 1
        return {
            target: depth * BLOCK_CHARS * self._trust.get(target, TRUST_AT_FIRST) for target, depth in depths.items()
        }

    def sent(self, target: Target, chain: Sequence[int], now: float) -> None:
        """A prompt with these beginnings was read there."""
        for key in chain:
            holders = self._holders.get(key)
            if holders is None:
                self._holders[key] = {target: now}
            else:
                holders[target] = now
                self._holders.move_to_end(key)
        while len(self._holders) > self._num_kept:
            self._holders.popitem(last=False)

    def learn(self, target: Target, *, expected: float, actual: float) -> None:
        """Of a prompt of which it was to hold `expected` tokens with full trust, it reported `actual` as cached."""
        if expected > 0.0:
            trust = self._trust.get(target, TRUST_AT_FIRST)
            share = min(1.0, actual / expected)
            self._trust[target] = trust + NEWEST_WEIGHT * (share - trust)

    def trust(self, target: Target) -> float:
        """Share of what was sent there lately that it holds when it is asked."""
        return self._trust.get(target, TRUST_AT_FIRST)

    def forget(self, place: str) -> None:
        """The place has left the fleet, or lost what it held."""
        for holders in self._holders.values():
            for target in [target for target in holders if target[0] == place]:
                del holders[target]
        for target in [target for target in self._trust if target[0] == place]:
            del self._trust[target]
