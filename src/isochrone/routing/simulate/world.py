"""One run: arrivals meet a policy over a fleet, in the shell that every policy shares.

The shell does for all of them what gateways do: a breaker a place, failover before the first token, going on
elsewhere when an answer breaks off, pauses after a refusal.  What differs is the order in which a policy wants the
places tried; ours also says when to ask a second one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from isochrone.routing.execute.settings import Settings as ExecutionSettings
from isochrone.routing.outlook import Forecast
from isochrone.routing.records import Ask, Candidate, Outcome, OutcomeKind, Target

from .clock import SimulatedClock
from .hedging import hedge_at_s
from .node import Job
from .noise import Luck
from .places import MODEL, Attempt, PlaceSpec, SimulatedPlace
from .trace import Arrival

CONNECT_S = 1.0
"""How long it takes to see that nobody is there."""
RESET_S = 0.3
"""How long it takes to see that a place has died under a stream."""
PAUSE_S = 2.0
"""How long a place that refused is left alone."""
LATER_S, PATIENCE_S = 0.5, 30.0
"""When nobody takes a request it is offered again after a while, for so long in all."""
EXECUTION = ExecutionSettings()
ATTEMPTS_MAX = EXECUTION.attempts_max


@dataclass(frozen=True, slots=True)
class Picked:
    """What a policy wants: targets, best first; a forecast only where it hedges."""

    order: Sequence[Target]
    forecast: Forecast | None = None


class SimulatedPolicy(Protocol):
    """Whoever chooses."""

    name: str

    def num_seen(self, target: Target) -> int: ...

    def pick(self, ask: Ask, candidates: Sequence[Candidate], now: float) -> Picked: ...

    def observe(self, outcome: Outcome) -> None: ...


@dataclass(slots=True)
class Flight:
    """A request on its way.  said: tokens that have come;  cost_usd of all attempts"""

    index: int
    arrival: Arrival
    num_attempts: int = 0
    tried: set[str] = field(default_factory=set)
    live: dict[int, Attempt] = field(default_factory=dict)
    first_at: float = math.inf
    end_at: float = math.inf
    said: int = 0
    cost_usd: float = 0.0
    is_over: bool = False
    num_hedges: int = 0
    has_failed: bool = False

    def is_in_budget(self) -> bool:
        """Whether every stated part of the budget was kept.  ITL is the mean over the answer."""
        one = self.arrival
        if not math.isfinite(self.end_at):
            return False
        itl_s = (self.end_at - self.first_at) / max(1, one.num_answer - 1)
        return (
            (one.ttft_s is None or self.first_at - one.at_s <= one.ttft_s)
            and (one.itl_s is None or itl_s <= one.itl_s)
            and (one.total_s is None or self.end_at - one.at_s <= one.total_s)
        )


class World:
    """groups_down  (group, from, until): lost in that time"""

    def __init__(
        self,
        fleet: Sequence[PlaceSpec],
        arrivals: Sequence[Arrival],
        policy: SimulatedPolicy,
        *,
        seed: int,
        groups_down: Sequence[tuple[str, float, float]] = (),
    ) -> None:
        self.clock, self.policy, self.arrivals = SimulatedClock(), policy, arrivals
        luck, length_s = Luck(seed, len(arrivals), len(fleet)), arrivals[-1].at_s + 120.0
        self.places = [SimulatedPlace(spec, i, luck, seed, length_s) for i, spec in enumerate(fleet)]
        self.by_name = {place.spec.name: place for place in self.places}
        self.flights = [Flight(i, one) for i, one in enumerate(arrivals)]
        self._attempts: dict[int, Attempt] = {}
        self._hedges = EXECUTION.hedge_burst
        self.current = self.flights[0]
        for group, begin, end in groups_down:
            for place in self.places:
                if place.spec.group == group:
                    place.down = (begin, end)
                    self.clock.at(begin, self._later(self._lose, place))

    @property
    def next_attempt_id(self) -> int:
        """What the attempt that is sent next will be called."""
        return len(self._attempts)

    def run(self) -> list[Flight]:
        """All requests, as they ended."""
        for flight in self.flights:
            self.clock.at(flight.arrival.at_s, self._later(self._arrive, flight))
        self.clock.run()
        return self.flights

    @staticmethod
    def _later(act: Callable[..., None], *what: object) -> Callable[[], None]:
        return lambda: act(*what)

    def _arrive(self, flight: Flight) -> None:
        self._hedges = min(EXECUTION.hedge_burst, self._hedges + EXECUTION.hedge_share)
        self._try(flight)

    def _try(self, flight: Flight) -> None:
        """Ask the policy, send, and set the timer of a hedge."""
        if flight.is_over:
            return
        now, one = self.clock.now, flight.arrival
        left = [place for place in self.places if place.spec.name not in flight.tried]
        usable = [place for place in left if now >= place.breaker.open_until] or left
        if flight.num_attempts >= ATTEMPTS_MAX:
            self._give_up(flight)
            return
        if not usable:
            self._try_later(flight)
            return
        candidates = [
            place.candidate(one, now, self.policy.num_seen((place.spec.name, MODEL)), self._later(self._tick, place))
            for place in usable
        ]
        if not any(one.is_open for one in candidates):  # all are let alone: every policy may ask them all the same
            candidates = [replace(one, is_open=True) for one in candidates]
        ask, self.current = self._ask(flight, now), flight
        picked = self.policy.pick(ask, candidates, now)
        if not picked.order:
            self._try_later(flight)
            return
        self._send(flight, self.by_name[picked.order[0][0]])
        if picked.forecast is not None and ask.ttft_s is not None and len(picked.order) > 1:
            self._set_hedge(flight, picked.order, picked.forecast, ask.ttft_s)

    def _ask(self, flight: Flight, now: float) -> Ask:
        one = flight.arrival
        gone_s = now - one.at_s
        return Ask(
            MODEL, "tenant", one.num_prompt + flight.said, route=one.kind,
            ttft_s=None if one.ttft_s is None or flight.said else max(1e-3, one.ttft_s - gone_s),
            itl_s=one.itl_s,
            total_s=None if one.total_s is None else max(1e-3, one.total_s - gone_s),
            is_dated=True,
        )  # fmt: skip

    def _set_hedge(self, flight: Flight, order: Sequence[Target], forecast: Forecast, ttft_s: float) -> None:
        first = forecast.index(order[0])
        others = [forecast.index(target) for target in order[1:]]
        second = max(others, key=lambda i: forecast.p_first_by(i, ttft_s * 0.5))
        after_s = hedge_at_s(forecast, first, second, ttft_s=ttft_s, margin=EXECUTION.hedge_margin)
        if after_s is not None:
            name = forecast.targets[second][0]
            self.clock.at(self.clock.now + after_s, self._later(self._hedge, flight, name, flight.num_attempts))

    def _hedge(self, flight: Flight, name: str, num_attempts: int) -> None:
        """The timer of a hedge has run out: send, if there is still silence and an allowance."""
        place = self.by_name[name]
        is_moot = flight.is_over or flight.num_attempts != num_attempts or math.isfinite(flight.first_at)
        if is_moot or self._hedges < 1.0 or self.clock.now < place.breaker.open_until or name in flight.tried:
            return
        self._hedges -= 1.0
        flight.num_hedges += 1
        self._send(flight, place)

    def _send(self, flight: Flight, place: SimulatedPlace) -> None:
        now, one = self.clock.now, flight.arrival
        believed = min(place.believed.held(one.blocks, now) * one.block_tokens, one.num_prompt - 1)
        others = max(0, place.polled[1] - place.num_silent) if place.node is not None else 0
        attempt = Attempt(
            len(self._attempts), flight.index, flight.num_attempts, place, now, one.num_prompt + flight.said,
            max(1, one.num_answer - flight.said), max(0, believed), place.num_in_flight, place.in_flight_prompt,
            place.silent_prompt, others, place.oldest_silent_s(now),
        )  # fmt: skip
        self._attempts[attempt.id] = attempt
        flight.num_attempts += 1
        flight.tried.add(place.spec.name)
        flight.live[attempt.id] = attempt
        place.breaker.trying(now)
        place.active[attempt.id] = attempt
        place.num_in_flight += 1
        place.in_flight_prompt += attempt.num_prompt
        place.num_silent += 1
        place.silent_prompt += attempt.num_prompt - attempt.num_cached
        place.believed.put(one.blocks, now)
        if place.is_down(now):
            self.clock.at(now + CONNECT_S, self._later(self._fail, attempt, "failed"))
            return
        half_s = 0.5 * place.round_trip_s(flight.index, attempt.number)
        self.clock.at(now + half_s, self._later(self._reach, attempt, half_s))

    def _reach(self, attempt: Attempt, half_s: float) -> None:
        """The request has come to its place."""
        place, now = attempt.place, self.clock.now
        if attempt.is_over or place.is_down(now):
            return  # `_lose` has told, or will
        arrival = self.arrivals[attempt.request]
        held = place.num_held(arrival, attempt.request, attempt.number, now)
        place.cache.put(arrival.blocks, now)
        num_prompt = attempt.num_prompt - held
        if place.node is not None:
            self._tick(place)
            start = place.node.spec.start_s * place.node.spec.prompt_per_s
            place.node.add(Job(attempt.id, num_prompt + start, attempt.num_answer))
            self._wind(place)
            return
        assert place.cloud is not None  # a place is one or the other
        if not place.cloud.has_room(attempt.num_prompt, now):
            self.clock.at(now + half_s, self._later(self._fail, attempt, "refused"))
            return
        place.cloud.take(attempt.num_prompt + attempt.num_answer, now)
        times = place.cloud.times(attempt.request, attempt.number, num_prompt, now)
        if times is None:
            self.clock.at(now + half_s + 0.1, self._later(self._fail, attempt, "failed"))
            return
        first_s, itl_s = times
        attempt.itl_s = itl_s
        self.clock.at(now + half_s + first_s, self._later(self._first, attempt))
        self.clock.at(now + half_s + first_s + itl_s * (attempt.num_answer - 1), self._later(self._end, attempt))

    def _tick(self, place: SimulatedPlace) -> None:
        """Bring a node to now; its events travel back to the gateway."""
        if place.node is None:
            return
        for when, is_first, id in place.node.advance(self.clock.now):
            attempt = self._attempts[id]
            half_s = 0.5 * place.round_trip_s(attempt.request, attempt.number)
            self.clock.at(when + half_s, self._later(self._first if is_first else self._end, attempt))

    def _wind(self, place: SimulatedPlace) -> None:
        """Set the alarm for a node's next event; older alarms no longer count."""
        assert place.node is not None  # only nodes have alarms
        place.version += 1
        soonest = place.node.next_at()
        if soonest is not None:
            self.clock.at(soonest, self._later(self._alarm, place, place.version))

    def _alarm(self, place: SimulatedPlace, version: int) -> None:
        if version == place.version:
            self._tick(place)
            self._wind(place)

    def _first(self, attempt: Attempt) -> None:
        if attempt.is_over:
            return
        flight = self.flights[attempt.request]
        attempt.first_at = self.clock.now
        attempt.place.num_silent -= 1
        attempt.place.silent_prompt -= attempt.num_prompt - attempt.num_cached
        flight.first_at = min(flight.first_at, self.clock.now)
        for other in [one for one in flight.live.values() if one is not attempt]:
            self._close(other, "hedged_out")

    def _end(self, attempt: Attempt) -> None:
        if attempt.is_over:
            return
        flight = self.flights[attempt.request]
        flight.end_at, flight.is_over = self.clock.now, True
        self._close(attempt, "answered")

    def _fail(self, attempt: Attempt, kind: OutcomeKind) -> None:
        """It refused or died: let the flight go on elsewhere, if nothing else of it is under way."""
        if attempt.is_over:
            return
        flight, place, now = self.flights[attempt.request], attempt.place, self.clock.now
        if kind == "refused":
            place.breaker.rest(PAUSE_S, now)
        flight.said += self._num_said(attempt)
        self._close(attempt, kind)
        if not flight.live:
            self._try(flight)

    def _close(self, attempt: Attempt, kind: OutcomeKind) -> None:
        """Nothing more comes of an attempt: book its cost, free its room, tell the policy."""
        place, now = attempt.place, self.clock.now
        flight = self.flights[attempt.request]
        attempt.is_over = True
        flight.live.pop(attempt.id)
        place.active.pop(attempt.id)
        place.num_in_flight -= 1
        place.in_flight_prompt -= attempt.num_prompt
        if not math.isfinite(attempt.first_at):
            place.num_silent -= 1
            place.silent_prompt -= attempt.num_prompt - attempt.num_cached
        if place.node is not None and kind == "hedged_out":
            self._tick(place)
            place.node.drop(attempt.id)
            self._wind(place)
        num_said = attempt.num_answer if kind == "answered" else self._num_said(attempt)
        cost_usd = 0.0 if kind == "refused" else cost_of(attempt, num_said)
        flight.cost_usd += cost_usd
        if kind != "hedged_out" and kind != "refused":
            place.breaker.saw(failed=kind == "failed", now=now)
        self.policy.observe(
            Outcome(
                (place.spec.name, MODEL), kind, attempt.sent_at, now, attempt.num_prompt, attempt.num_cached, num_said,
                attempt.first_at if math.isfinite(attempt.first_at) else None, attempt.in_flight,
                attempt.in_flight_prompt, flight.arrival.kind, cost_usd=cost_usd, silent_prompt=attempt.silent_prompt,
                num_others=attempt.num_others, network_s=place.spec.rtt_s, oldest_silent_s=attempt.oldest_silent_s,
            )  # fmt: skip
        )

    def _num_said(self, attempt: Attempt) -> int:
        """Tokens that have come of an attempt that breaks off, about."""
        if not math.isfinite(attempt.first_at):
            return 0
        itl_s = attempt.itl_s or (attempt.place.node.spec.itl_s if attempt.place.node is not None else 0.03)
        return min(attempt.num_answer - 1, 1 + int((self.clock.now - attempt.first_at) / itl_s * 0.8))

    def _lose(self, place: SimulatedPlace) -> None:
        """A place goes down: its streams break, its caches are gone."""
        if place.node is not None:
            self._tick(place)
            place.node.clear()
            place.version += 1
        place.cache.clear()
        for attempt in list(place.active.values()):
            self.clock.at(self.clock.now + RESET_S, self._later(self._fail, attempt, "failed"))

    def _try_later(self, flight: Flight) -> None:
        if self.clock.now - flight.arrival.at_s > PATIENCE_S:
            self._give_up(flight)
            return
        flight.tried.clear()
        self.clock.at(self.clock.now + LATER_S, self._later(self._try, flight))

    def _give_up(self, flight: Flight) -> None:
        flight.is_over = flight.has_failed = True


def cost_of(attempt: Attempt, num_said: int) -> float:
    """US dollars of an attempt that came to so many tokens."""
    price = attempt.place.spec.price
    cached = price.cached_prompt_usd_per_million
    return 1e-6 * (
        (attempt.num_prompt - attempt.num_cached) * price.prompt_usd_per_million
        + attempt.num_cached * (price.prompt_usd_per_million if cached is None else cached)
        + num_said * price.completion_usd_per_million
    )
