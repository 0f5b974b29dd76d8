"""The fleet as the router sees it, whoever keeps it; `fleet.Fleet` does, from a file and from nodes that join."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

from isochrone.places.place import Place
from isochrone.places.spec import ModelSpec

from .geography import WORLD, Geography
from .records import Quantiles, Target


class Member(Protocol):
    """A place of the fleet."""

    @property
    def place(self) -> Place: ...

    @property
    def max_in_flight(self) -> int | None:
        """Most requests that we have there at once; None: no bound of ours."""
        ...

    def hold(self) -> AbstractContextManager[object]:
        """Around every request that is sent to it: the place is not closed meanwhile."""
        ...


class Fleet(Protocol):
    """Which places there are now."""

    @property
    def members(self) -> Mapping[str, Member]:
        """Those that take requests, by name."""
        ...

    def targets(self, model: str) -> Sequence[Target]:
        """What a caller's name for a model stands for."""
        ...

    def models(self) -> Sequence[str]:
        """Every name that a caller may ask for."""
        ...

    def about(self, target: Target) -> ModelSpec:
        """What the operator says of a model there, which goes before what the place says."""
        ...

    def network(self, name: str) -> Quantiles:
        """Round trip from here to a place."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class FixedMember:
    """A place that stays."""

    place: Place
    max_in_flight: int | None = None

    def hold(self) -> AbstractContextManager[object]:
        """Nothing closes it."""
        return nullcontext()


class FixedFleet:
    """Places that stay, as they describe themselves.  routes  a caller's name for a model -> what it stands for"""

    def __init__(
        self, places: Sequence[Place | FixedMember], routes: Mapping[str, Sequence[Target]] | None = None, *,
        geography: Geography = WORLD,
    ) -> None:  # fmt: skip
        fixed = [one if isinstance(one, FixedMember) else FixedMember(one) for one in places]
        self.members: dict[str, FixedMember] = {one.place.name: one for one in fixed}
        self._routes, self._geography = dict(routes or {}), geography

    def targets(self, model: str) -> Sequence[Target]:
        if model in self._routes:
            return [target for target in self._routes[model] if target[0] in self.members]
        return [
            (name, model)
            for name, member in self.members.items()
            if any(one.id == model for one in member.place.status().models)
        ]

    def models(self) -> Sequence[str]:
        served = (model.id for member in self.members.values() for model in member.place.status().models)
        return list(dict.fromkeys([*self._routes, *served]))

    def about(self, target: Target) -> ModelSpec:
        return ModelSpec(target[1], target[1])

    def network(self, name: str) -> Quantiles:
        return self._geography.network("local", self.members[name].place.location)

    async def close(self) -> None:
        for member in self.members.values():
            await member.place.close()
