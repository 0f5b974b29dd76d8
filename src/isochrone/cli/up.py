"""`isochrone up`"""

from __future__ import annotations

from typing import Any

import click

from .output import note, print_json
from .verb import LOADING, model_argument, settings_from, verb


@verb(
    "isochrone up smollm2-135m",
    "isochrone up ./model.gguf --port 9000 --context 4096",
    "ISOCHRONE_API_KEY=change-me isochrone up smollm2-135m --host 0.0.0.0",
    settings=("host", "port", "drain", "log_level", "kv_spill", *LOADING),
)
@model_argument
@click.option("--name", help="Id that clients call the model by; its own name unless given.")
def command(model: str, name: str | None, as_json: bool, **flags: Any) -> None:
    """Serve a model over the APIs of OpenAI, Anthropic and Ollama, in the foreground."""
    from isochrone.api.serving import serve_model

    def on_listening(url: str) -> None:
        if as_json:
            return print_json({"model": name or model, "url": f"{url}/v1"})
        note(f"Serving {name or model} at {url}/v1; Ctrl-C drains and stops.")

    def on_licence(licence: str) -> None:
        note(f"{name or model} is under the licence {licence}.")

    serve_model(model, settings_from(flags), name=name, on_listening=on_listening, on_licence=on_licence)
