"""`isochrone models`"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .output import print_json, print_table
from .verb import verb

if TYPE_CHECKING:
    from isochrone.weights.inventory import StoredModel


@verb("isochrone models", "isochrone models --json")
def command(as_json: bool) -> None:
    """List the models that are here with what they take on disk, and the short names that can be pulled."""
    from isochrone.weights import inventory
    from isochrone.weights.here import known_names

    here = inventory.models()
    missing = [name for name in known_names() if name not in {model.name for model in here}]
    if as_json:
        return print_json({"here": here, "can_be_pulled": missing})
    rows = [_row(model) for model in here]
    rows += [(name, "-", "-", "-", f"not here: isochrone pull {name}") for name in missing]
    print_table(("model", "size", "packed", "licence", "where"), rows)


def _row(model: StoredModel) -> tuple[str, ...]:
    from isochrone import units

    sizes = (units.format_bytes(size) if size else "-" for size in (model.num_bytes, model.packed_bytes))
    where = str(model.path) if model.path else f"packed copies alone: isochrone rm {model.name}"
    return (model.name, *sizes, model.license or ("not stated" if model.path else "-"), where)
