"""`isochrone version`"""

from __future__ import annotations

import platform
from importlib import metadata

import click

from isochrone import __version__

from .output import print_json
from .verb import verb

PARTS = ("numpy", "tokenizers", "uvicorn", "llvmlite")


@verb("isochrone version", "isochrone version --json", is_native=False)
def command(as_json: bool) -> None:
    """Print the versions of Isochrone and of what it stands on."""
    facts = {"isochrone": __version__, "python": platform.python_version()}
    facts |= {part: _installed(part) for part in PARTS}
    if as_json:
        return print_json(facts)
    for name, number in facts.items():
        click.echo(f"{name:<11} {number}")


def _installed(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
