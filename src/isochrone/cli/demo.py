"""`isochrone demo`"""

from __future__ import annotations

import sys

import click

from .output import note, print_json
from .verb import DURATION, verb


@verb("isochrone demo fleet", "isochrone demo fleet --for 30s", "isochrone demo fleet --for 1s --json")
@click.argument("what", type=click.Choice(["fleet"]))
@click.option("--for", "for_s", type=DURATION, help="Keep it up for so long; until Ctrl-C unless given.")
def command(what: str, for_s: float | None, as_json: bool) -> None:
    """Show a fleet on this machine: an answer goes on elsewhere when the node that gives it is killed.

    Two nodes of unequal speed, two test clouds and a gateway are started, and ended with this command.
    """
    import asyncio
    import dataclasses

    from isochrone.testing.demo.show import demonstrate

    def write(words: str) -> None:
        if not as_json:
            sys.stdout.write(words)
            sys.stdout.flush()

    try:
        shown = asyncio.run(demonstrate(for_s, note if as_json else click.echo, write))
    except asyncio.CancelledError:  # SIGTERM: everything has been ended
        raise click.Abort from None
    if as_json:
        print_json(dataclasses.asdict(shown))
    if not shown.is_same:
        click.get_current_context().exit(1)
