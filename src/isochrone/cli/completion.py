"""`isochrone completion`"""

from __future__ import annotations

import click

from .output import print_json
from .verb import verb

SHELLS = ("bash", "zsh", "fish")


@verb(
    'eval "$(isochrone completion bash)"', "isochrone completion fish > ~/.config/fish/completions/isochrone.fish",
    is_native=False,
)  # fmt: skip
@click.argument("shell", type=click.Choice(SHELLS))
def command(shell: str, as_json: bool) -> None:
    """Print the script that teaches a shell to complete verbs, options and models."""
    from click.shell_completion import get_completion_class

    from .app import app

    kind = get_completion_class(shell)
    assert kind is not None  # each of SHELLS is one of click's
    source = kind(app, {}, "isochrone", "_ISOCHRONE_COMPLETE").source()
    if as_json:
        return print_json({"shell": shell, "script": source})
    click.echo(source)
