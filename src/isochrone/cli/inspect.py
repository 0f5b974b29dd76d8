"""`isochrone inspect`"""

from __future__ import annotations

from typing import Any

import click

from .output import print_json
from .verb import model_argument, settings_from, verb

STAGES = ("summary", "graph", "plan", "tile", "llvm", "asm")


@verb(
    "isochrone inspect smollm2-135m",
    "isochrone inspect smollm2-135m --stage asm --isa avx2",
    settings=("weights", "kv_type", "isa", "offline"),
)
@model_argument
@click.option("--stage", type=click.Choice(STAGES), default="summary", show_default=True, help="What to print.")
def command(model: str, stage: str, as_json: bool, **flags: Any) -> None:
    """Show what the compiler makes of a model: each pass's effect, or one stage in full."""
    from isochrone.api.inspecting import inspect

    shown = inspect(model, stage, settings_from(flags))
    if as_json:
        return print_json(shown.record)
    click.echo(shown.text)
