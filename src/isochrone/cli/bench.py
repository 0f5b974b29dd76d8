"""`isochrone bench`"""

from __future__ import annotations

from typing import Any

import click

from .output import note, print_json, print_table
from .verb import LOADING, model_argument, settings_from, verb

BUSY = 0.5
"""Runnable threads of others a core from which figures say little about the model."""


@verb(
    "isochrone bench smollm2-135m", "isochrone bench smollm2-135m --threads 1 --json",
    settings=LOADING,
)  # fmt: skip
@model_argument
def command(model: str, as_json: bool, **flags: Any) -> None:
    """Measure a model on this machine, each figure beside its limit: in seconds when quiet, in minutes when busy."""
    from isochrone.api.bench import run_bench

    report = run_bench(model, settings_from(flags), progress=lambda what: note(f"measuring {what}"))
    if report.machine == "not probed":
        note("The limits of times and rates are not known: isochrone probe measures them.")
    if report.load > BUSY:
        note(f"Each core had {report.load:.1f} other threads to run at the start: these figures are a busy machine's.")
    if as_json:
        return print_json(report)
    rows = [(f.name, f.shown, f.shown_limit, f.shown_share) for f in report.figures]
    print_table(("figure", "measured", "limit", "share of limit"), rows)
    click.echo(f"{report.machine}, {report.threads} threads, {report.isa}, {report.date}")
