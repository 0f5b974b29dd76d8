"""What the executor asks about the places while it runs one request, and tells of what happened there."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from isochrone.errors import IsochroneError
from isochrone.places.place import Price
from isochrone.places.route import Why
from isochrone.routing.records import FREE, Target

from .exchange import Sent, Tally


@dataclass(frozen=True, slots=True)
class Option:
    """A target that may be asked now.

    timeout_s   how long it is waited for while others are left
    num_prompt  tokens of the prompt, estimated
    """

    target: Target
    timeout_s: float
    num_prompt: int = 0
    price: Price = FREE
    in_flight: int = 0
    in_flight_prompt: int = 0

    def sent(self, why: Why, now: float) -> Sent:
        """The attempt that is made of it."""
        return Sent(
            self.target, why, now, self.num_prompt, self.price, Tally(),
            in_flight=self.in_flight, in_flight_prompt=self.in_flight_prompt,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Later:
    """A target that said when it will have room.  at  monotonic, seconds"""

    option: Option
    at: float


class Guide(Protocol):
    """Belongs to one request."""

    def options(self, tried: Collection[Target], *, spent_usd: float, is_resuming: bool) -> Sequence[Option]:
        """Who can be asked now, best first, but for those."""
        ...

    def later(self, tried: Collection[Target]) -> Later | None:
        """Who can be asked soonest when nobody can now: those that were tried too, if they said when to come back."""
        ...

    def refusal(self) -> IsochroneError:
        """Why nobody can be asked."""
        ...

    def can_retry(self, target: Target) -> bool:
        """Whether that target may be asked by a request that somebody was asked for before."""
        ...

    def chance(self, target: Target, within_s: float, silent_s: float = 0.0) -> float:
        """That its first words come in so many seconds, after so many of silence."""
        ...

    def first_by_s(self, now: float) -> float | None:
        """Seconds within which first words are wanted; None: the caller stated nothing that says so."""
        ...

    def may_hedge(self) -> bool:
        """Take the allowance of one hedge, if there is one."""
        ...

    def sent(self, sent: Sent) -> None:
        """This was sent now."""
        ...

    def spoke(self, sent: Sent) -> None:
        """Its first words have come."""
        ...

    def ended(self, sent: Sent, error: IsochroneError | None) -> None:
        """It has ended, as `sent.kind` says: told exactly once."""
        ...

    def closed(self) -> None:
        """Everything is over, and every attempt has ended."""
        ...
