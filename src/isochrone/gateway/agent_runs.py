"""The agent's run that a request is a step of, as its header says.

    Isochrone-Run: 7f3a, workflow=research, total=90s, cost=0.05usd

The first step states what the whole run may take; later ones need only its id, and can only tighten it.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches

from isochrone.errors import BadConfig, BadRequest
from isochrone.units import parse_duration, parse_usd

HEADER = b"isochrone-run"
HEADER_BYTES_MAX = 512
NAME_CHARS_MAX = 128
PARTS = ("workflow", "total", "cost")
_EXAMPLE = "Write it as Isochrone-Run: ID, workflow=NAME, total=90s, cost=0.05usd."


@dataclass(frozen=True, slots=True)
class RunSaid:
    """id  names the run among those of its key;  workflow: whose steps it is alike to;  None: not stated"""

    id: str
    workflow: str = ""
    total_s: float | None = None
    cost_usd: float | None = None


def run_of(header: bytes) -> RunSaid:
    """What the header says.  Raises BadRequest."""
    if len(header) > HEADER_BYTES_MAX:
        raise _wrong("Isochrone-Run is longer than any run needs.")
    id, *parts = (part.strip() for part in header.decode("latin-1").split(","))
    if not id or "=" in id or len(id) > NAME_CHARS_MAX:
        raise _wrong(f"Isochrone-Run begins with {id[:40]!r}, which is no id.")
    said: dict[str, str] = {}
    for part in parts:
        name, _, value = (piece.strip() for piece in part.partition("="))
        if name not in PARTS or name in said:
            near = get_close_matches(name.lower(), PARTS, n=1)
            meant = f" Was {near[0]} meant?" if near and near[0] not in said else ""
            raise _wrong(f"{name[:40]!r} {'is there twice' if name in said else 'says nothing of a run'}.{meant}")
        said[name] = value
    try:
        total_s = parse_duration(said["total"]) if "total" in said else None
        cost_usd = parse_usd(said["cost"]) if "cost" in said else None
    except BadConfig as error:
        raise _wrong(error.message) from None
    if (total_s is not None and total_s <= 0) or (cost_usd is not None and cost_usd < 0):
        raise _wrong("A run's total is above zero, and its cost is not below.")
    return RunSaid(id, said.get("workflow", "")[:NAME_CHARS_MAX], total_s, cost_usd)


def _wrong(message: str) -> BadRequest:
    return BadRequest(message, fix=_EXAMPLE, param="Isochrone-Run")
