"""`isochrone compile`"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .output import note, print_json
from .verb import model_argument, settings_from, verb


@verb(
    "isochrone compile smollm2-135m", "isochrone compile smollm2-135m --pack smollm2.pack --isa avx2",
    settings=("weights", "kv_type", "isa", "offline"),
)  # fmt: skip
@model_argument
@click.option("--pack", type=click.Path(dir_okay=False, path_type=Path), help="Export the kernels to this file.")
def command(model: str, pack: Path | None, as_json: bool, **flags: Any) -> None:
    """Compile a model's kernels into the cache, and export them for installs without LLVM."""
    from isochrone.api.compiling import compile_kernels

    compiled = compile_kernels(model, settings_from(flags), pack=pack, progress=note)
    if as_json:
        return print_json(compiled)
    click.echo(compiled.summary)
