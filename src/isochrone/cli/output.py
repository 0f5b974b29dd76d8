"""Results on stdout, as JSON or as a table with aligned columns; progress on stderr."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    import json

    click.echo(json.dumps(value, indent=2, default=_plain, ensure_ascii=False))


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout: numbers to the right, words to the left, two spaces between columns."""
    table = [tuple(header), *map(tuple, rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    numeric = [bool(rows) and all(_is_number(row[column]) for row in rows) for column in range(len(header))]
    for row in table:
        cells = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        )
        click.echo("  ".join(cells).rstrip())


def note(text: str) -> None:
    """A line of progress, on stderr."""
    click.echo(text, err=True)


def _is_number(cell: str) -> bool:
    return cell == "-" or cell[:1].isdigit()


def _plain(value: Any) -> Any:
    """Records as objects, paths as text."""
    import dataclasses

    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)
