"""`isochrone rm`"""

from __future__ import annotations

import click

from .output import print_json
from .verb import model_argument, verb


@verb("isochrone rm smollm2-135m", "isochrone rm Qwen/Qwen3-0.6B", "isochrone rm ./my-model.gguf")
@model_argument
def command(model: str, as_json: bool) -> None:
    """Remove a pulled model with its packed copies.

    A model of the hub leaves the cache that all its tools share; of a model named by its path, only the packed copies
    go.
    """
    from isochrone import units
    from isochrone.weights import inventory

    freed_bytes = inventory.remove(model)
    if as_json:
        return print_json({"model": model, "freed_bytes": freed_bytes})
    click.echo(f"Removed {model}: {units.format_bytes(freed_bytes)} are free again.")
