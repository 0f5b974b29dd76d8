"""`isochrone mcp`"""

from __future__ import annotations

import click

from .verb import verb


@verb(
    "isochrone mcp",
    "isochrone mcp --gateway http://10.0.0.5:8400",
    "isochrone mcp --http 8401",
    is_native=False,
)
@click.option("--gateway", default="http://127.0.0.1:8400", show_default=True, help="The gateway that is asked.")
@click.option("--key", envvar="ISOCHRONE_API_KEY", default="", help="Its key. [ISOCHRONE_API_KEY]")
@click.option("--http", "port", type=click.IntRange(1, 65535), help="Listen on this port of 127.0.0.1, not on stdio.")
def command(gateway: str, key: str, port: int | None, as_json: bool) -> None:
    """Offer a running gateway to agents as tools of the Model Context Protocol: complete, places, explain."""
    from isochrone.gateway.mcp import Remote, server_of

    server = server_of(Remote(gateway, key))
    if port is None:
        server.run("stdio")
    else:
        server.run("streamable-http", host="127.0.0.1", port=port)
