"""Models of a place under the names, prices and scores that an operator gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from msgspec.structs import replace

from isochrone.errors import BadConfig

from .place import ABILITIES, Ability, Model
from .spec import ModelSpec, PlaceSpec


def expect_options(spec: PlaceSpec, kinds: Mapping[str, tuple[type, ...]]) -> Mapping[str, Any]:
    """The options of a place, all of them known and of the right kind.  Raises BadConfig."""
    for name, value in spec.options.items():
        if name not in kinds:
            raise BadConfig(
                f"The place {spec.name} has the option {name}, which the kind {spec.kind} does not know.",
                fix=f"Remove it, or use one of {', '.join(kinds)}.",
            )
        if not isinstance(value, kinds[name]) or (isinstance(value, bool) and bool not in kinds[name]):
            wanted = " or ".join(kind.__name__ for kind in kinds[name])
            raise BadConfig(
                f"The option {name} of the place {spec.name} is {value!r}, which is no {wanted}.", fix="Correct it."
            )
    return spec.options


class Offers:
    """specs  empty: whatever the place lists, under its own names;  abilities: of models that it does not list"""

    def __init__(self, place: str, specs: tuple[ModelSpec, ...], abilities: tuple[Ability, ...] = ABILITIES) -> None:
        """Raises BadConfig."""
        self._specs, self._abilities = specs, abilities
        self._upstream = {spec.id: spec.upstream or spec.id for spec in specs}
        for spec in specs:
            unknown = set(spec.abilities or ()) - set(ABILITIES)
            if unknown:
                raise BadConfig(
                    f"The model {spec.id} of the place {place} has the ability {min(unknown)}, which nobody knows.",
                    fix=f"Choose among {', '.join(ABILITIES)}.",
                )

    @property
    def are_fixed(self) -> bool:
        """The operator has named the models."""
        return bool(self._specs)

    def upstream(self, id: str) -> str:
        """What the place calls it; the same where nobody renamed it."""
        return self._upstream.get(id, id)

    def models(self, listed: tuple[Model, ...]) -> tuple[Model, ...]:
        """What is offered, given what the place lists now; a model that it does not list is offered all the same."""
        if not self._specs:
            return listed
        there = {model.id: model for model in listed}
        return tuple(self._offered(spec, there.get(self._upstream[spec.id])) for spec in self._specs)

    def _offered(self, spec: ModelSpec, model: Model | None) -> Model:
        base = model or Model(spec.upstream, None, 0, owner="", abilities=self._abilities)
        said: dict[str, Any] = {
            "price": spec.price, "quality": spec.quality, "context": spec.context,
            "abilities": cast("tuple[Ability, ...] | None", spec.abilities),
        }  # fmt: skip
        return replace(base, id=spec.id, **{name: value for name, value in said.items() if value is not None})
