"""`isochrone config`"""

from __future__ import annotations

import click

from .output import print_json, print_table
from .verb import verb


@verb("isochrone config", "ISOCHRONE_PORT=9000 isochrone config port", "isochrone config --json", is_native=False)
@click.argument("key", required=False)
def command(key: str | None, as_json: bool) -> None:
    """Show each setting, its value and where it comes from."""
    from isochrone import config as settings
    from isochrone.errors import BadConfig

    values = settings.resolve().values
    if key is not None:
        values = tuple(value for value in values if value.key == key)
        if not values:
            near = settings.nearest(key, settings.keys())
            raise BadConfig(f"There is no setting {key!r}.", fix=f"Did you mean {near}?")
    if as_json:
        return print_json({v.key: {"value": v.shown, "origin": v.origin, "explain": v.explain} for v in values})
    print_table(("setting", "value", "origin"), [(v.key, v.shown, v.origin) for v in values])
