"""What the fleet file says of one place, checked and complete: all that a place is built from.

It lies here, below the fleet, because each kind of place builds itself from it: `from_spec(spec) -> Place`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from isochrone.errors import BadConfig

from .place import Price


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model of a place.

    id        as callers and routes name it;  upstream: as the place names it
    price, quality, context, abilities   override what the catalogue or the place says; None: not overridden
    regions   where the provider may run this model, when they differ from the place's (a cross-region profile)
    """

    id: str
    upstream: str
    price: Price | None = None
    quality: float | None = None
    context: int | None = None
    abilities: tuple[str, ...] | None = None
    regions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PlaceSpec:
    """One place of the fleet.

    kind           which factory builds it: local, isochrone, openai, bedrock, vertex or gemini
    url            where it listens; empty: where its vendor's usual one is
    key_env        the environment variable that holds its key; empty: none, or as the vendor's tools find credentials
    location       `local`, `site`, a region's name or a point of the fleet file
    regions        where the provider may run what is sent there; empty: only at `location`
    models         empty: whatever the place itself lists
    max_in_flight  most requests that we have there at once; None: no bound of ours
    price          of models that state none
    options        what the kind itself understands, such as `project` or `service_tier`
    line           of the fleet file, for messages;  0: not from a file
    secret         the key itself, where no variable holds it: nodes that joined by a token
    """

    name: str
    kind: str
    url: str = ""
    key_env: str = ""
    location: str = "local"
    regions: tuple[str, ...] = ()
    models: tuple[ModelSpec, ...] = ()
    max_in_flight: int | None = None
    price: Price | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    line: int = field(default=0, compare=False)
    secret: str = field(default="", repr=False)

    def key(self, environ: Mapping[str, str] | None = None) -> str:
        """The secret that `key_env` names; empty when there is none.  Raises BadConfig when it is not set."""
        if not self.key_env:
            return self.secret
        secret = (os.environ if environ is None else environ).get(self.key_env, "")
        if not secret:
            raise BadConfig(
                f"The place {self.name} takes its key from {self.key_env}, which is not set.",
                fix=f"Set {self.key_env} where the gateway runs, or remove key_env from the place.",
            )
        return secret

    def model(self, id: str) -> ModelSpec | None:
        """The model of that id, if the fleet file names it."""
        return next((model for model in self.models if model.id == id), None)
