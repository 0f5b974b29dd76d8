"""`isochrone join`"""

from __future__ import annotations

import socket

import click

from .output import note
from .verb import DURATION, verb


@verb(
    "isochrone join https://gateway:8400 --token-env FLEET_TOKEN --node http://10.0.0.7:8400",
    "isochrone join --mdns --token-env FLEET_TOKEN --node http://10.0.0.7:8400",
    "ISOCHRONE_API_KEY=$(isochrone join --key --token-env FLEET_TOKEN) isochrone up smollm2-135m --host 10.0.0.7",
    is_native=False,
)
@click.argument("url", required=False)
@click.option("--token", help="The fleet's secret; a variable hides it better from other users: --token-env.")
@click.option("--token-env", help="The environment variable that holds it.")
@click.option("--node", default="http://127.0.0.1:8400", show_default=True, help="Where gateways reach this node.")
@click.option("--name", help="The node's name in the fleet; this machine's unless given.")
@click.option("--location", default="site", show_default=True, help="A region, or a point of the gateway's fleet file.")
@click.option("--max-in-flight", type=click.IntRange(1), help="Most requests that a gateway may have here at once.")
@click.option("--drain", "drain_s", type=DURATION, default="30s", help="Time for what runs when this is stopped.")
@click.option("--mdns", is_flag=True, help="Let gateways on the local network find it, in place of naming one.")
@click.option("--key", "only_key", is_flag=True, help="Print the key that gateways show to this node, and leave.")
def command(
    url: str | None, token: str | None, token_env: str | None, node: str, name: str | None, location: str,
    max_in_flight: int | None, drain_s: float, mdns: bool, only_key: bool, as_json: bool,
) -> None:  # fmt: skip
    """Announce a running node to a gateway until Ctrl-C or SIGTERM; then it drains and leaves.

    The node must take the key that --key prints: start it with ISOCHRONE_API_KEY set to that.
    """
    from isochrone.routing.fleet import node_key

    name = name or socket.gethostname().partition(".")[0]
    secret = _secret(token, token_env)
    if only_key:
        return click.echo(node_key(secret, name))
    if (url is None) != mdns:
        raise click.UsageError("Say which gateway, or --mdns: isochrone join URL --token-env VARIABLE.")
    from isochrone.api.joining import advertise, join

    if url is None:
        return advertise(secret, name, node, location)

    join(url, secret, name, node, location, max_in_flight=max_in_flight, drain_s=drain_s, tell=note)


def _secret(token: str | None, token_env: str | None) -> str:
    import os

    secret = token or os.environ.get(token_env or "", "")
    if not secret:
        raise click.UsageError(
            f"{token_env} is not set." if token_env else "Say the fleet's secret: --token-env VARIABLE, or --token."
        )
    return secret
