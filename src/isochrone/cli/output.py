"""Results on stdout, as JSON or as a table with aligned columns; progress on stderr."""

from __future__ import annotations

import sys
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


class Progress:
    """A line on stderr that grows: percent and size on a terminal, start and end elsewhere.

    Called with what is done and what there is to do, in bytes.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._is_live = sys.stderr.isatty()
        self._shown = ""

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._shown and self._is_live:
            click.echo(err=True)

    def __call__(self, done_bytes: int, all_bytes: int) -> None:
        from isochrone.units import format_bytes

        share = f"{done_bytes / all_bytes:4.0%} of {format_bytes(all_bytes)}" if all_bytes else format_bytes(done_bytes)
        if self._is_live and share != self._shown:
            click.echo(f"\r{self._what}: {share}", nl=False, err=True)
        elif not self._shown:
            click.echo(f"{self._what}: {format_bytes(all_bytes)}", err=True)
        self._shown = share


def _is_number(cell: str) -> bool:
    return cell == "-" or cell[:1].isdigit()


def _plain(value: Any) -> Any:
    """Records as objects, paths as text."""
    import dataclasses

    import msgspec

    if isinstance(value, msgspec.Struct):
        return {name: getattr(value, name) for name in value.__struct_fields__}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)
