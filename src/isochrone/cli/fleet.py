"""`isochrone fleet`"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .output import note, print_json, print_table
from .verb import verb

if TYPE_CHECKING:
    from isochrone.places.spec import ModelSpec, PlaceSpec
    from isochrone.routing.fleet import FleetFile


@verb("isochrone fleet fleet.toml", "isochrone fleet fleet.toml --json", is_native=False)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def command(file: Path, as_json: bool) -> None:
    """Check a fleet file and show its places: what they cost, how good they are, how far away.

    A mistake is told with its line.  Nothing is asked of the places themselves.
    """
    from isochrone.routing.fleet import read_fleet

    fleet = read_fleet(file)
    rows = [(spec, model) for spec in fleet.places for model in spec.models or (None,)]
    if as_json:
        return print_json([_facts(fleet, spec, model) for spec, model in rows])
    print_table(
        ("place", "model", "kind", "location", "network", "USD/M prompt", "USD/M answer", "quality"),
        [_row(fleet, spec, model) for spec, model in rows],
    )
    for spec in fleet.places:
        if spec.key_env and not os.environ.get(spec.key_env):
            note(f"{spec.key_env}, the key of {spec.name}, is not set here.")


def _facts(fleet: FleetFile, spec: PlaceSpec, model: ModelSpec | None) -> dict[str, object]:
    network = fleet.geography.network("local", spec.location)
    return {
        "place": spec.name, "kind": spec.kind, "url": spec.url, "location": spec.location,
        "network_s": {"p50": network.p50_s, "p90": network.p90_s, "p99": network.p99_s},
        "model": model and model.id, "upstream": model and model.upstream, "regions": model and model.regions,
        "price": model and model.price, "quality": model and model.quality, "context": model and model.context,
        "routes": [name for name, targets in fleet.routes.items() if model and (spec.name, model.id) in targets],
    }  # fmt: skip


def _row(fleet: FleetFile, spec: PlaceSpec, model: ModelSpec | None) -> tuple[str, ...]:
    from isochrone.units import format_duration

    price = model.price if model else spec.price
    usd = ("-", "-") if price is None else (
        f"{price.prompt_usd_per_million:g}", f"{price.completion_usd_per_million:g}"
    )  # fmt: skip
    return (
        spec.name, model.id if model else "(asks it)", spec.kind, spec.location,
        format_duration(fleet.geography.network("local", spec.location).p50_s), *usd,
        "-" if model is None or model.quality is None else f"{model.quality:g}",
    )  # fmt: skip
