"""`isochrone models`"""

from __future__ import annotations

from .output import print_json, print_table
from .verb import verb


@verb("isochrone models", "isochrone models --json")
def command(as_json: bool) -> None:
    """List the models that are here by a short name, and the names that can be pulled."""
    from isochrone import units
    from isochrone.weights import store

    here = {model.name: model for model in store.models()}
    if as_json:
        return print_json({"here": list(here.values()), "can_be_pulled": sorted({*store.known_names()} - here.keys())})
    rows = [(m.name, units.format_bytes(m.num_bytes), m.license, str(m.path)) for m in here.values()]
    rows += [(name, "-", "-", "not here: isochrone pull " + name) for name in store.known_names() if name not in here]
    print_table(("model", "size", "licence", "where"), rows)
