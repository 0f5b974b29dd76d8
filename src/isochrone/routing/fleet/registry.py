"""From the kind of a place to what builds one, imported when the fleet holds a place of that kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TypeAlias, cast

from isochrone.errors import BadConfig
from isochrone.places.place import Place
from isochrone.places.spec import PlaceSpec

Factory: TypeAlias = Callable[[PlaceSpec], Place]

FACTORIES: Mapping[str, str] = {
    "isochrone": "isochrone.places.isochrone_place:from_spec",
    "openai": "isochrone.places.openai_place:from_spec",
    "bedrock": "isochrone.places.bedrock:from_spec",
    "vertex": "isochrone.places.vertex:from_spec",
    "gemini": "isochrone.places.gemini:from_spec",
}
"""`module:function`.  `local` is missing: only the process that runs the engine can build that place."""
KINDS = ("local", *FACTORIES)


def build(spec: PlaceSpec, more: Mapping[str, Factory] | None = None) -> Place:
    """The place that a spec describes.

    more  factories of this process, such as the one of its own engine
    Raises BadConfig for what the spec or this process lacks, MissingExtra for what is not installed.
    """
    factory = (more or {}).get(spec.kind)
    if factory is None:
        named = FACTORIES.get(spec.kind)
        if named is None:
            raise BadConfig(
                f"The place {spec.name} is of kind {spec.kind}, which nothing in this process builds.",
                fix="Name the model of this machine on the command line: isochrone up MODEL --fleet FILE.",
            )
        module, _, function = named.partition(":")
        factory = cast(Factory, getattr(import_module(module), function))
    return factory(spec)
