"""Rows of the pages that say what becomes of every field of an API."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from isochrone.gateway.fields import Refusals


def legend(owner: str) -> str:
    """What the words in the tables mean.  owner  of the documentation that is meant"""
    return (
        f"*Honoured*: does what {owner} documents. *Accepted*: there is nothing here that it could change.\n"
        "*Refused*: an error with the field's name, unless the value asks for nothing. A field that is not here is an\n"
        "error too.\n\n"
    )


def field_table(honoured: Mapping[str, str], accepted: Mapping[str, str], refused: Refusals) -> Iterator[str]:
    """A table with one row a field, by name."""
    rows = {name: ("honoured", what) for name, what in honoured.items()}
    rows |= {name: ("accepted", what) for name, what in accepted.items()}
    rows |= {name: ("refused", _refusal(*refusal)) for name, refusal in refused.items()}
    yield "| field | here | what it does |\n|---|---|---|\n"
    for name, (here, what) in sorted(rows.items()):
        yield f"| `{name}` | {here} | {what} |\n"


def _refusal(neutral: tuple[object, ...], instead: str) -> str:
    asks = " or ".join(f"`{msgspec.json.encode(value).decode()}`" for value in neutral)
    return f"{f'except {asks}. ' if asks else ''}{instead}"
