"""`isochrone pull`"""

from __future__ import annotations

from typing import Any

import click

from .output import Progress, print_json
from .verb import model_argument, settings_from, verb


@verb("isochrone pull smollm2-135m", "isochrone pull Qwen/Qwen3-0.6B", settings=("offline",))
@model_argument
def command(model: str, as_json: bool, **flags: Any) -> None:
    """Fetch a model and verify it; a model that is here already is only verified."""
    from isochrone.api.facts import licence_of
    from isochrone.weights import open_checkpoint, store

    with Progress(f"pulling {model}") as progress:
        path = store.pull(model, offline=settings_from(flags).offline, report=progress)
    licence = licence_of(model, open_checkpoint(path).license)
    if as_json:
        return print_json({"model": model, "path": path, "license": licence})
    click.echo(f"{model} is at {path} (licence: {licence}).")
