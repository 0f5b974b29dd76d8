"""`isochrone bench`"""

from __future__ import annotations

from typing import Any

import click

from .output import note, print_json, print_table
from .verb import LOADING, model_argument, settings_from, verb


@verb(
    "isochrone bench smollm2-135m", "isochrone bench smollm2-135m --threads 1 --json",
    settings=LOADING, is_native=True,
)  # fmt: skip
@model_argument
def command(model: str, as_json: bool, **flags: Any) -> None:
    """Measure a model on this machine, each figure beside its limit."""
    from isochrone.api.bench import run_bench

    report = run_bench(model, settings_from(flags), progress=note)
    if as_json:
        return print_json(report)
    if not any(figure.limit for figure in report.figures):
        note("No limits are known: isochrone probe measures them.")
    rows = [(f.name, f.shown, f.shown_limit, f.shown_share) for f in report.figures]
    print_table(("figure", "measured", "limit", "share of limit"), rows)
    click.echo(f"{report.machine}, {report.threads} threads, {report.isa}, {report.date}")
