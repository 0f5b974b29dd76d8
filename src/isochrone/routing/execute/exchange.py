"""One request as the executor sees it: a stream that can be opened at any target, whatever its items are.

The faces' deltas and a relay's raw bytes go through the same executor; what differs is said here.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol, TypeVar

from isochrone.budget import Deadline
from isochrone.places.place import Price
from isochrone.places.route import Why
from isochrone.routing.records import OutcomeKind, Target

Item = TypeVar("Item")


@dataclass(slots=True)
class Tally:
    """Tokens of one attempt, counted as they come.  num_prompt  0: the place has not said it"""

    num_prompt: int = 0
    num_cached: int = 0
    num_cache_written: int = 0
    num_answer: int = 0

    def cost_usd(self, price: Price, num_prompt: int) -> float:
        """What they cost.  num_prompt  to be taken where the place has not said it"""
        prompt = self.num_prompt or num_prompt
        cached_price, write_price = price.cached_prompt_usd_per_million, price.cache_write_usd_per_million
        plain = max(0, prompt - self.num_cached - self.num_cache_written)
        usd = plain * price.prompt_usd_per_million + self.num_answer * price.completion_usd_per_million
        usd += self.num_cached * (price.prompt_usd_per_million if cached_price is None else cached_price)
        usd += self.num_cache_written * (price.prompt_usd_per_million if write_price is None else write_price)
        return usd / 1e6


@dataclass(slots=True)
class Sent:
    """One attempt, as the books have it.  Instants are monotonic seconds.

    num_prompt  estimated, tokens;  price  of the model there
    in_flight, in_flight_prompt  our own requests there when it was sent, and the tokens of their prompts
    kind        empty while it runs;  code: of the error that ended it
    num_items, last_at  of what came after the first words, to know how silent is too silent
    """

    target: Target
    why: Why
    sent_at: float
    num_prompt: int
    price: Price
    tally: Tally
    in_flight: int = 0
    in_flight_prompt: int = 0
    first_at: float | None = None
    ended_at: float | None = None
    kind: OutcomeKind | None = None
    code: str = ""
    num_items: int = 0
    last_at: float = 0.0

    @property
    def cost_usd(self) -> float:
        """So far.  A prompt that was sent is paid for, unless the place refused it or died before it said anything."""
        if self.kind == "refused" or (self.kind == "failed" and self.first_at is None and not self.tally.num_prompt):
            return 0.0
        return self.tally.cost_usd(self.price, self.num_prompt)

    @property
    def mean_gap_s(self) -> float:
        """Between what came after the first words."""
        if self.first_at is None or self.num_items < 1:
            return 0.0
        return (self.last_at - self.first_at) / self.num_items


class Exchange(Protocol[Item]):
    """Belongs to one request."""

    def open(self, target: Target, deadline: Deadline, *, resume: bool) -> AsyncGenerator[Item, None]:
        """The stream of that target.  resume  go on after what was taken, of which nothing is said again"""
        ...

    def count(self, item: Item, tally: Tally) -> bool:
        """Book it.  True when it commits: a caller who sees it may not be given another place's words instead."""
        ...

    def take(self, item: Item, sent: Sent) -> Item | None:
        """As it goes to the caller;  None: the caller has it already.  Items are counted before they are taken."""
        ...

    @property
    def is_over(self) -> bool:
        """The ending was taken: nothing that follows is missed."""
        ...

    def can_resume(self, target: Target) -> bool:
        """Whether that target could go on after what was taken."""
        ...

    def ending(self, sent: Sent, *, is_late: bool) -> list[Item]:
        """The ending of an answer that its place did not end.  Empty: there is none to be had.

        is_late  the deadline cuts it;  otherwise the place died, and the answer may have been complete
        """
        ...
