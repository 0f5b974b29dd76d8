"""The fleet's targets for one request, as plain data: what the choice sees of places, traffic, breakers and caches."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import cast

from msgspec.structs import replace

from isochrone.places.place import Ability, Load, Model, Pace, Price
from isochrone.places.spec import ModelSpec

from .breaker import Breakers
from .members import Fleet, Member
from .outlook import Outlook
from .priors import prior_of
from .records import Candidate, Row, Target
from .traffic import Traffic

FULL = "full"
"""How the verdict on a place begins that has as many of our requests as it may have."""


@dataclass(frozen=True, slots=True)
class Field:
    """Who could answer.

    candidates  to be chosen from;  out: who cannot be, with the reason
    found       who stands behind each target, those that are out included
    """

    candidates: list[Candidate]
    out: list[Row]
    found: dict[Target, tuple[Member, Model]]


class Scout:
    """Looks at the fleet."""

    def __init__(self, fleet: Fleet, outlook: Outlook, breakers: Breakers, traffic: Traffic) -> None:
        self._fleet, self._outlook = fleet, outlook
        self._breakers, self._traffic = breakers, traffic
        self._paces: dict[Target, Pace] = {}
        self._models: dict[Target, tuple[Model | None, ModelSpec, Model]] = {}

    def look(self, name: str, now: float, cached: Mapping[Target, float], tried: Collection[Target] = ()) -> Field:
        """Who could answer by that name of a model.  cached  tokens of the prompt that targets probably hold"""
        ready: list[Candidate] = []
        late: list[Candidate] = []
        field = Field(ready, [], {})
        for target in self._fleet.targets(name):
            member = self._fleet.members[target[0]]
            status = member.place.status()
            model = self.model_at(member, target, status.models)
            field.found[target] = member, model
            if target in tried or status.state == "failed":
                field.out.append(Row(*target, "asked already" if target in tried else "failed"))
                continue
            if self.is_full(target[0], member):
                field.out.append(Row(*target, f"{FULL}: {member.max_in_flight} requests there"))
                continue
            if status.pace is not None:
                self._expect(target, status.pace, status.load.num_slots)
            one = self._candidate(member, target, model, status.load, now, cached.get(target, 0.0))
            (ready if status.state == "ready" else late).append(one)
        if not ready:  # a place that is loading answers when it has loaded
            ready.extend(late)
        else:
            field.out.extend(Row(one.place, one.model, "not ready") for one in late)
        return field

    def is_full(self, place: str, member: Member) -> bool:
        """We have as many requests there as the operator allows."""
        return member.max_in_flight is not None and self._traffic.at_place(place) >= member.max_in_flight

    def prices(self, name: str) -> Iterator[tuple[Price, int | None]]:
        """(price, context) of every target that the name of a model stands for."""
        for target in self._fleet.targets(name):
            member = self._fleet.members[target[0]]
            model = self.model_at(member, target, member.place.status().models)
            yield model.price or member.place.price, model.context

    def model_at(self, member: Member, target: Target, served: tuple[Model, ...]) -> Model:
        """A model as the operator and its place describe it together."""
        own = next((model for model in served if model.id == target[1]), None)
        said = self._fleet.about(target)
        known = self._models.get(target)
        if known is None or known[0] is not own or known[1] is not said:
            known = self._models[target] = own, said, _described(own or Model(target[1], None, 0), said)
        return known[2]

    def forget(self, place: str) -> None:
        """The place has left the fleet."""
        for target in [target for target in self._models if target[0] == place]:
            del self._models[target]
            self._paces.pop(target, None)

    def _expect(self, target: Target, pace: Pace, num_slots: int) -> None:
        """Until something was seen of a place of ours, it is as it says."""
        if self._paces.get(target) is not pace and not self._outlook.num_seen(target):
            self._paces[target] = pace
            self._outlook.expect(target, prior_of(pace, num_slots))

    def _candidate(
        self, member: Member, target: Target, model: Model, load: Load, now: float, num_cached: float
    ) -> Candidate:
        place, count = member.place, self._traffic.at(target)
        headroom = 1.0 if load.headroom is None else load.headroom
        if member.max_in_flight is not None:
            headroom = min(headroom, max(0.0, 1.0 - self._traffic.at_place(target[0]) / member.max_in_flight))
        is_open = self._breakers.is_open_for(target, now)
        return Candidate(
            target[0], target[1], place.location, self._fleet.about(target).regions, self._fleet.network(target[0]),
            model.price or place.price, model.quality, frozenset(model.abilities), model.context,
            num_in_flight=count.num_in_flight, in_flight_prompt=count.in_flight_prompt, num_silent=count.num_silent,
            silent_prompt=count.silent_prompt, num_waiting=load.num_waiting, num_running=load.num_running,
            num_cached=int(num_cached), is_open=is_open,
            retry_at=0.0 if is_open else self._breakers.retry_at(target, now), headroom=headroom,
            num_seen=self._outlook.num_seen(target), oldest_silent_s=count.oldest_silent_s(now),
        )  # fmt: skip


def _described(own: Model, said: ModelSpec) -> Model:
    return replace(
        own,
        context=own.context if said.context is None else said.context,
        price=said.price or own.price,
        quality=own.quality if said.quality is None else said.quality,
        abilities=own.abilities if said.abilities is None else cast(tuple[Ability, ...], said.abilities),
    )
