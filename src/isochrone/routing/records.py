"""What the choice of a place reads and says, as plain data: no place, no socket, no clock is in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from isochrone.places.place import Ability, Price

Target: TypeAlias = tuple[str, str]
"""(place, model there): what a request can be sent to."""
FREE = Price()


@dataclass(frozen=True, slots=True)
class Ask:
    """What of a request matters to its time, its price and where it may go.

    model       as the caller names it: a model's id, or a route of the fleet that stands for several
    num_prompt  tokens, estimated;  num_answer_max: what the caller allows, None: as the context does
    needs       abilities without which a place cannot answer
    route       whose lengths of answers this one's is guessed from
    budget_*    what remains of the caller's budget now; None: not stated
    """

    model: str
    tenant: str
    num_prompt: int
    num_answer_max: int | None = None
    needs: frozenset[Ability] = frozenset()
    route: str = ""
    ttft_s: float | None = None
    itl_s: float | None = None
    total_s: float | None = None
    cost_usd: float | None = None
    quality: float | None = None
    scope: str = "any"
    strict: bool = False
    is_dated: bool = False


@dataclass(frozen=True, slots=True)
class Quantiles:
    """A time that is not known yet, seconds: at most so long in 50, 90 and 99 of 100 cases."""

    p50_s: float
    p90_s: float
    p99_s: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """One target as it is now.

    location     a region's name, `local`, `site`, or a name that the fleet file gives a point
    regions      where the provider may run it (several for a cross-region profile); empty: only at `location`
    network      round trip from here
    num_in_flight, in_flight_prompt   our own requests there, and the tokens of their prompts
    num_waiting, num_running          as the place itself reports; None where it does not
    num_cached   tokens of this prompt that the place probably holds
    is_open      its breaker lets requests pass;  retry_at: when it may again (monotonic)
    headroom     share of its quota or slots that is free, 0 to 1
    num_seen     outcomes learned from; few means that times come from a prior
    num_silent, silent_prompt   those of our requests in flight there whose first token has not come, and the tokens
                 of their prompts that no cache holds: what a new prompt queues behind
    oldest_silent_s  how long the oldest of them has waited
    """

    place: str
    model: str
    location: str = "local"
    regions: tuple[str, ...] = ()
    network: Quantiles = Quantiles(0.0, 0.0, 0.0)
    price: Price = FREE
    quality: float | None = None
    abilities: frozenset[Ability] = frozenset()
    context: int | None = None
    num_in_flight: int = 0
    in_flight_prompt: int = 0
    num_waiting: int | None = None
    num_running: int | None = None
    num_cached: int = 0
    is_open: bool = True
    retry_at: float = 0.0
    headroom: float = 1.0
    num_seen: int = 0
    num_silent: int = 0
    silent_prompt: int = 0
    oldest_silent_s: float = 0.0

    @property
    def target(self) -> Target:
        return self.place, self.model


@dataclass(frozen=True, slots=True)
class Row:
    """Why a candidate won or lost.

    verdict   `chosen`, or the reason in a few words
    p_within  probability that every stated part of the budget is kept; None for one that was ruled out before
    """

    place: str
    model: str
    verdict: str
    ttft: Quantiles | None = None
    total: Quantiles | None = None
    p_within: float | None = None
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """chosen       None: nobody can, and the rows say why
    order        the targets that could, best first; the first is the chosen one
    propensity   probability with which this policy would have chosen it (1 without exploration or ties)
    """

    chosen: Target | None
    order: tuple[Target, ...]
    rows: tuple[Row, ...]
    propensity: float = 1.0
    is_exploring: bool = False
    policy: str = "isochrone"


OutcomeKind: TypeAlias = Literal["answered", "refused", "failed", "stalled", "cancelled", "hedged_out"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one attempt at a target came to.

    sent_at, first_at, ended_at  monotonic, seconds;  first_at: of the first semantic token, None if none came
    in_flight                    our own requests there when it was sent
    silent_prompt, oldest_silent_s, num_others, network_s  as they were then: the candidate's, its num_waiting beyond
                                 our num_silent, and its network's p50
    """

    target: Target
    kind: OutcomeKind
    sent_at: float
    ended_at: float
    num_prompt: int
    num_cached: int = 0
    num_answer: int = 0
    first_at: float | None = None
    in_flight: int = 0
    in_flight_prompt: int = 0
    route: str = ""
    code: str = ""
    cost_usd: float = 0.0
    facts: dict[str, float] = field(default_factory=dict)
    silent_prompt: int = 0
    num_others: int = 0
    network_s: float = 0.0
    oldest_silent_s: float = 0.0
