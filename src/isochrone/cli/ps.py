"""`isochrone ps`"""

from __future__ import annotations

import click

from .output import print_json, print_table
from .verb import verb


@verb("isochrone ps", "isochrone ps --json")
def command(as_json: bool) -> None:
    """List the servers that run on this machine as this user."""
    from isochrone.api import running

    servers = running.servers()
    if as_json:
        return print_json(servers)
    if not servers:
        return click.echo("No server runs. Start one: isochrone up smollm2-135m")
    print_table(
        ("model", "url", "process", "since"), [(s.model, s.url, str(s.process_id), s.started_on) for s in servers]
    )
