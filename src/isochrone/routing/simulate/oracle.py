"""The clairvoyant: it knows each answer's length, each draw of luck, and which place will be lost when.

For every request, cheapest place first, it runs a copy of the node ahead with the request in it: the first place that
keeps this budget, and breaks none that was to be kept there, gets it.  If there is none, the request is lost anyway
and goes where it breaks the fewest others.  It is greedy in the order of arrival, so a bound in practice and not in
theory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from isochrone.routing.records import Ask, Candidate, Outcome, Target

from .node import Job
from .places import MODEL, SimulatedPlace
from .trace import Arrival
from .world import Flight, Picked, World


@dataclass(frozen=True, slots=True)
class _Promise:
    """An attempt at a node that is going to keep its budget.  first_at: known once it has come"""

    flight: Flight
    first_by: float
    itl_s: float
    end_by: float
    num_answer: int


class Oracle:
    """taste  what it prefers among the places that keep the budget: `cheap` (of one price the slowest, so that fast
    ones stay free), `fast`, or `roomy` (the most quota or slots left).  The best of the three is the bound.
    """

    name = "oracle"

    def __init__(self, taste: Literal["cheap", "fast", "roomy"] = "cheap") -> None:
        self._world: World | None = None
        self._promises: dict[str, dict[int, _Promise]] = {}
        self._taste = taste

    def bind(self, world: World) -> Oracle:
        """The world that it sees through."""
        self._world = world
        self._promises = {place.spec.name: {} for place in world.places}
        return self

    def num_seen(self, target: Target) -> int:
        return 0

    def observe(self, outcome: Outcome) -> None:
        """It knew."""

    def pick(self, ask: Ask, candidates: Sequence[Candidate], now: float) -> Picked:
        world = self._world
        assert world is not None  # bound before the run
        flight = world.current
        places = [world.by_name[one.place] for one in candidates]
        kept: list[tuple[float, float, SimulatedPlace]] = []
        harms: list[tuple[int, float, SimulatedPlace]] = []
        for place in places:
            keeps, harm, first_s = self._look(place, flight, now)
            if keeps and harm == 0:
                kept.append((*self._rank(place, flight, first_s, now), place))
            else:
                harms.append((harm, first_s, place))
        if kept:
            _, _, best = min(kept, key=lambda entry: entry[:2])
            self._promise(best, flight, now)
        else:
            best = min(harms, key=lambda entry: entry[:2])[2]
        rest = [place for place in places if place is not best]
        return Picked([(place.spec.name, MODEL) for place in (best, *rest)])

    def _rank(self, place: SimulatedPlace, flight: Flight, first_s: float, now: float) -> tuple[float, float]:
        price, one = place.spec.price, flight.arrival
        cost = price.prompt_usd_per_million * one.num_prompt + price.completion_usd_per_million * one.num_answer
        if self._taste == "cheap":
            return cost, -first_s
        if self._taste == "fast":
            return first_s, cost
        room = place.cloud.headroom(now) if place.cloud is not None else 1.0 - place.num_in_flight / 32.0
        return -room, cost

    def _look(self, place: SimulatedPlace, flight: Flight, now: float) -> tuple[bool, int, float]:
        """(whether it keeps the budget there, how many promises it breaks, seconds to its first token)"""
        if place.is_down(now):
            return False, 0, math.inf
        one, number = flight.arrival, flight.num_attempts
        half_s = 0.5 * place.round_trip_s(flight.index, number)
        num_answer = max(1, one.num_answer - flight.said)
        prompt = one.num_prompt + flight.said - place.num_held(one, flight.index, number, now)
        if place.node is None:
            assert place.cloud is not None  # a place is one or the other
            if not place.cloud.has_room(one.num_prompt + flight.said, now + half_s):
                return False, 0, math.inf
            times = place.cloud.times(flight.index, number, prompt, now + half_s)
            if times is None:
                return False, 0, math.inf
            first_at = now + 2.0 * half_s + times[0]
            end_at = first_at + times[1] * (num_answer - 1)
            return self._keeps(flight, one, first_at, end_at, place), 0, first_at - now
        return self._look_at_node(place, flight, prompt, num_answer, half_s, now)

    def _look_at_node(
        self, place: SimulatedPlace, flight: Flight, prompt: float, num_answer: int, half_s: float, now: float
    ) -> tuple[bool, int, float]:
        assert place.node is not None  # the caller looked
        twin = place.node.copy()
        events = twin.advance(now + half_s)
        twin.add(Job(-1, prompt + twin.spec.start_s * twin.spec.prompt_per_s, num_answer))
        events += twin.advance(math.inf)
        firsts = {id: when + half_s for when, is_first, id in events if is_first}
        ends = {id: when + half_s for when, is_first, id in events if not is_first}
        keeps = self._keeps(flight, flight.arrival, firsts[-1], ends[-1], place)
        harm = 0
        promises = self._promises[place.spec.name]
        for id in list(promises):
            promise = promises[id]
            if id not in ends:
                del promises[id]  # it is done
                continue
            first_at = firsts.get(id, promise.flight.first_at)
            itl_s = (ends[id] - first_at) / max(1, promise.num_answer - 1)
            if first_at > promise.first_by or ends[id] > promise.end_by or itl_s > promise.itl_s:
                harm += 1
        return keeps, harm, firsts[-1] - now

    def _keeps(self, flight: Flight, one: Arrival, first_at: float, end_at: float, place: SimulatedPlace) -> bool:
        if place.down[0] < end_at and first_at < place.down[1]:
            return False
        first_at = min(first_at, flight.first_at)
        return (
            (one.ttft_s is None or first_at - one.at_s <= one.ttft_s)
            and (one.total_s is None or end_at - one.at_s <= one.total_s)
            and (one.itl_s is None or (end_at - first_at) / max(1, one.num_answer - 1) <= one.itl_s)
        )

    def _promise(self, place: SimulatedPlace, flight: Flight, now: float) -> None:
        one = flight.arrival
        if place.node is None:
            return
        assert self._world is not None  # bound
        self._promises[place.spec.name][self._world.next_attempt_id] = _Promise(
            flight,
            math.inf if one.ttft_s is None else one.at_s + one.ttft_s,
            math.inf if one.itl_s is None else one.itl_s,
            math.inf if one.total_s is None else one.at_s + one.total_s,
            one.num_answer,
        )
