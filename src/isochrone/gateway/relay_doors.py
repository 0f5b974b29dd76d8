"""Which places of the fleet take a chat in the caller's own bytes, and the warm connections to each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from isochrone.places.place import Place
from isochrone.places.spec import PlaceSpec

from .relay import Door

RELAYED = "openai"
"""The kind of place that speaks OpenAI's chat API.  Our own nodes are asked in our own words, which carry tokens."""


class Described(Protocol):
    """A member of the fleet that a file or a node describes."""

    @property
    def spec(self) -> PlaceSpec: ...


class DescribedFleet(Protocol):
    """The fleet, by the names of its places."""

    @property
    def members(self) -> Mapping[str, Described]: ...


class FleetDoors:
    """Fulfils `Doors` for a fleet that changes."""

    def __init__(self, fleet: DescribedFleet) -> None:
        self._fleet = fleet
        self._doors: dict[str, tuple[PlaceSpec, Door]] = {}

    def door(self, place: Place, model: str) -> tuple[Door, str] | None:
        """See `Doors.door`.  Raises BadConfig when the place's key is not set."""
        member = self._fleet.members.get(place.name)
        if member is None or member.spec.kind != RELAYED:
            return None
        spec = member.spec
        known = self._doors.get(spec.name)
        if known is None or known[0] is not spec:
            self._forget(spec.name)
            known = self._doors[spec.name] = spec, _door(spec)
        named = spec.model(model)
        return known[1], named.upstream if named is not None else model

    def _forget(self, name: str) -> None:
        """Close what rests to a place that changed, and to places that left; what is under way ends by itself."""
        for other in [other for other in self._doors if other == name or other not in self._fleet.members]:
            self._doors.pop(other)[1].close()

    def close(self) -> None:
        """Close every resting connection."""
        while self._doors:
            self._doors.popitem()[1][1].close()


def _door(spec: PlaceSpec) -> Door:
    key = spec.key()
    return Door(spec.name, spec.url, [(b"authorization", f"Bearer {key}".encode())] if key else [])
