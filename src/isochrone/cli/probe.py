"""`isochrone probe`"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .output import note, print_json
from .verb import settings_from, verb


@verb(
    "isochrone probe", "isochrone probe smollm2-135m --svg roofline.svg", "isochrone probe --json",
    settings=("isa", "threads", "weights", "kv_type", "context", "offline"),
)  # fmt: skip
@click.argument("model", required=False)
@click.option("--svg", type=click.Path(dir_okay=False, path_type=Path), help="Write the roofline picture to this file.")
def command(model: str | None, svg: Path | None, as_json: bool, **flags: Any) -> None:
    """Measure what this machine can do at most, keep it, and print the roofline, with the kernels of MODEL on it."""
    from isochrone.api.probing import probe

    probed = probe(settings_from(flags), model=model, progress=lambda what: note(f"measuring {what}"))
    if svg is not None:
        svg.write_text(probed.svg)
    if as_json:
        return print_json(probed)
    click.echo(probed.text)
