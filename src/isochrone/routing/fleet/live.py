"""The fleet as it runs: places are built, kept over a reload, and drained before they are closed.

A place whose description did not change is the same object after a reload, with its connections and what was learned of
it.  One that was removed or changed takes no new requests; those that it answers end first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from isochrone.places.place import Place
from isochrone.places.spec import ModelSpec, PlaceSpec
from isochrone.routing.geography import RoundTrips
from isochrone.routing.geography.geography import LOCAL
from isochrone.routing.records import Quantiles, Target

from .file import FleetFile, completed
from .registry import Factory, build

DRAIN_S = 60.0
"""How long a place that left may go on with what it has begun."""


class Member:
    """A place of the fleet.  round_trips  from here to it, as they are measured"""

    def __init__(self, spec: PlaceSpec, place: Place) -> None:
        self.spec, self.place, self.num_in_flight = spec, place, 0
        self.round_trips = RoundTrips()
        self._measured: dict[str, float] = {}

    @contextmanager
    def hold(self) -> Iterator[Place]:
        """The place, which is not closed meanwhile.  Around every request that is sent to it."""
        self.num_in_flight += 1
        try:
            yield self.place
        finally:
            self.num_in_flight -= 1

    @property
    def max_in_flight(self) -> int | None:
        """Most requests that we have there at once; None: no bound of ours."""
        return self.spec.max_in_flight

    def measure(self) -> None:
        """Take down what its place has measured of the way there since the last look."""
        for name, observe in (
            ("round_trip_s", self.round_trips.observe), ("connect_took_s", self.round_trips.observe_connect),
        ):  # fmt: skip
            seconds: float | None = getattr(self.place, name, None)
            if seconds is not None and seconds != self._measured.get(name):
                self._measured[name] = seconds
                observe(seconds)


@dataclass(frozen=True, slots=True)
class Changes:
    """What a reload did, by name."""

    added: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    leaving: tuple[str, ...] = ()


class Fleet:
    """file  what the operator wrote;  more: factories of this process, such as its own engine's

    Belongs to one event loop.  Raises what building a place raises.
    """

    def __init__(self, file: FleetFile, more: Mapping[str, Factory] | None = None, *, drain_s: float = DRAIN_S) -> None:
        self.file, self._more, self._drain_s = file, dict(more or {}), drain_s
        self._members: dict[str, Member] = {}
        self._nodes: tuple[PlaceSpec, ...] = ()
        self._leaving: list[tuple[Member, float]] = []
        self._about: dict[Target, ModelSpec] = {}
        self._become(file, (), 0.0)

    @property
    def members(self) -> Mapping[str, Member]:
        """Those that take requests, by name; the mapping is replaced, never changed."""
        return self._members

    @property
    def leaving(self) -> tuple[Member, ...]:
        """Those that only finish what they have begun."""
        return tuple(member for member, _ in self._leaving)

    def reload(self, file: FleetFile, now: float) -> Changes:
        """Become what the file says.  When a place cannot be built, nothing changes, and its error is raised."""
        return self._become(file, self._nodes, now)

    def see(self, nodes: Iterable[PlaceSpec], now: float) -> Changes:
        """These nodes have announced themselves and take requests; no others do."""
        found = tuple(nodes)
        return Changes(kept=tuple(self._members)) if found == self._nodes else self._become(self.file, found, now)

    async def sweep(self, now: float) -> tuple[str, ...]:
        """Close what has finished, or had its time.  The names of those."""
        done = [(m, by) for m, by in self._leaving if not m.num_in_flight or now >= by]
        self._leaving = [(m, by) for m, by in self._leaving if m.num_in_flight and now < by]
        for member, _ in done:
            await member.place.close()
        return tuple(member.spec.name for member, _ in done)

    async def close(self) -> None:
        """Close every place, finished or not."""
        every = [*self._members.values(), *self.leaving]
        self._members, self._leaving = {}, []
        for member in every:
            await member.place.close()

    def targets(self, model: str) -> tuple[Target, ...]:
        """What a caller's name for a model stands for: a route of the file, else every place that serves it."""
        if model in self.file.routes:
            return tuple(target for target in self.file.routes[model] if target[0] in self._members)
        return tuple((name, model) for name, member in self._members.items() if _serves(member, model))

    def models(self) -> tuple[str, ...]:
        """Every name that a caller may ask for."""
        served = (model.id for member in self._members.values() for model in member.place.status().models)
        named = (model.id for member in self._members.values() for model in member.spec.models)
        return tuple(dict.fromkeys([*self.file.routes, *named, *served]))

    def about(self, target: Target) -> ModelSpec:
        """Price, quality, context and regions of a model there, as far as file and catalogue say."""
        if target not in self._about:
            name, model = target
            spec = self._members[name].spec
            known = spec.model(model) or completed(spec, ModelSpec(model, model), self.file.catalogue)
            if len(self._about) > 4096:
                self._about.clear()
            self._about[target] = known
        return self._about[target]

    def network(self, name: str) -> Quantiles:
        """Round trip from here to a place, measured where it was."""
        member = self._members[name]
        return self.file.geography.network(LOCAL, member.spec.location, member.round_trips)

    def why_not(self, scope: str, target: Target) -> str:
        """Why a prompt of that scope may not go there; empty when it may."""
        regions = self.about(target).regions
        return self.file.geography.why_not(scope, self._members[target[0]].spec.location, regions)

    def _become(self, file: FleetFile, nodes: tuple[PlaceSpec, ...], now: float) -> Changes:
        wanted = {spec.name: spec for spec in (*file.places, *nodes)}
        kept = {name: m for name, m in self._members.items() if wanted.get(name) == m.spec}
        added = {name: Member(spec, build(spec, self._more)) for name, spec in wanted.items() if name not in kept}
        gone = [member for name, member in self._members.items() if name not in kept]
        self._leaving += [(member, now + self._drain_s) for member in gone]
        self._members = {name: kept.get(name) or added[name] for name in wanted}
        self.file, self._nodes, self._about = file, nodes, {}
        return Changes(tuple(added), tuple(kept), tuple(member.spec.name for member in gone))


def _serves(member: Member, model: str) -> bool:
    if member.spec.models:
        return member.spec.model(model) is not None
    return any(one.id == model for one in member.place.status().models)
