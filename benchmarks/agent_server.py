"""`isochrone up` with a part of the engine switched off, for `agent_trace`: … MODEL --port 8000 --off drafts"""

from __future__ import annotations

import click

from isochrone import config
from isochrone.api.serving import serve_model
from isochrone.engine.records import EngineLimits

SWITCHES = ("reuses", "forces", "drafts")


@click.command()
@click.argument("model")
@click.option("--port", required=True)
@click.option("--threads", required=True)
@click.option("--kv-memory", required=True)
@click.option("--off", multiple=True, type=click.Choice(SWITCHES))
def main(model: str, port: str, threads: str, kv_memory: str, off: tuple[str, ...]) -> None:
    """Serve a model on loopback."""
    settings = config.resolve({"port": port, "threads": threads, "kv_memory": kv_memory}).settings
    limits = EngineLimits(reuses="reuses" not in off, forces="forces" not in off, drafts="drafts" not in off)
    serve_model(model, settings, name="bench", on_listening=lambda url: click.echo(url, err=True), limits=limits)


if __name__ == "__main__":
    main()
