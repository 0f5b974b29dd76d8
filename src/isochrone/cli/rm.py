"""`isochrone rm`"""

from __future__ import annotations

import click

from .output import print_json
from .verb import model_argument, verb


@verb("isochrone rm smollm2-135m")
@model_argument
def command(model: str, as_json: bool) -> None:
    """Remove a pulled model with its packed copies."""
    from isochrone import units
    from isochrone.weights import store

    freed_bytes = store.remove(model)
    if as_json:
        return print_json({"model": model, "freed_bytes": freed_bytes})
    click.echo(f"Removed {model}: {units.format_bytes(freed_bytes)} are free again.")
