"""`isochrone up`"""

from __future__ import annotations

from typing import Any

import click

from .output import note, print_json
from .verb import LOADING, model_argument, settings_from, verb


@verb(
    "isochrone up smollm2-135m",
    "isochrone up ./model.gguf --port 9000 --context 4096",
    "isochrone up --fleet fleet.toml smollm2-135m",
    "ISOCHRONE_API_KEY=change-me isochrone up smollm2-135m --host 0.0.0.0",
    settings=("host", "port", "drain", "log_level", "ledger", "kv_spill", *LOADING),
)
@model_argument(required=False)
@click.option("--name", help="Id that clients call the model by; its own name unless given.")
@click.option(
    "--fleet", type=click.Path(dir_okay=False), help="Choose among the places of this file; MODEL is one."
)
def command(model: str | None, name: str | None, fleet: str | None, as_json: bool, **flags: Any) -> None:
    """Serve a model over the APIs of OpenAI, Anthropic and Ollama, in the foreground.

    With --fleet each request is answered where its budget is kept at the least cost.
    """
    title = name or model or "the fleet"

    def on_listening(url: str) -> None:
        if as_json:
            return print_json({"model": name or model, "url": f"{url}/v1"})
        note(f"Serving {title} at {url}/v1; Ctrl-C drains and stops.")

    def on_licence(licence: str) -> None:
        note(f"{title} is under the licence {licence}.")

    if fleet is not None:
        from pathlib import Path

        from isochrone.api.fleet_serving import serve_fleet

        serve_fleet(
            Path(fleet), settings_from(flags), model=model, name=name, on_listening=on_listening, on_licence=on_licence
        )
    elif model is None:
        raise click.UsageError("Name a MODEL, a --fleet FILE, or both.")
    else:
        from isochrone.api.serving import serve_model

        serve_model(model, settings_from(flags), name=name, on_listening=on_listening, on_licence=on_licence)
