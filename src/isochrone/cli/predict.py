"""`isochrone predict`"""

from __future__ import annotations

from typing import Any

import click

from .output import print_json, print_table
from .verb import DURATION, model_argument, settings_from, verb


@verb(
    "isochrone predict smollm2-135m --prompt 2000 --output 200",
    "isochrone predict ./config.json --prompt 500 --output 100 --ttft 300ms",
    settings=("weights", "kv_type", "threads", "offline"),
)
@model_argument
@click.option("--prompt", "prompt_tokens", type=click.IntRange(1), default=512, help="Prompt tokens.")
@click.option("--output", "output_tokens", type=click.IntRange(1), default=128, help="Answer tokens.")
@click.option("--ttft", "ttft_max_s", type=DURATION, help="Longest time to the first token, such as 300ms.")
@click.option("--itl", "itl_max_s", type=DURATION, help="Longest time between tokens, such as 50ms.")
def command(
    model: str, prompt_tokens: int, output_tokens: int, ttft_max_s: float | None, itl_max_s: float | None,
    as_json: bool, **flags: Any,
) -> None:  # fmt: skip
    """Say whether a model fits here, in which form, and how fast, from its config alone."""
    from isochrone import units
    from isochrone.api.predicting import predict

    told = predict(
        model, settings_from(flags), prompt_tokens=prompt_tokens, output_tokens=output_tokens, ttft_max_s=ttft_max_s,
        itl_max_s=itl_max_s,
    )  # fmt: skip
    if as_json:
        return print_json(told)
    rows = [
        (
            f"{form.form} *" if form.form == told.choice else form.form,
            units.format_bytes(form.memory_bytes), "yes" if form.fits else "no",
            units.format_duration(form.ttft.s_p50), units.format_duration(form.ttft.s_p95),
            units.format_duration(form.itl.s_p50), f"{form.tokens_per_s:.1f}", units.format_duration(form.total_s_p50),
        )
        for form in told.forms
    ]  # fmt: skip
    click.echo(
        f"{units.format_count(told.num_parameters)} parameters; {units.format_bytes(told.free_bytes)} are free here."
    )
    print_table(("form", "memory", "fits", "ttft p50", "ttft p95", "itl p50", "tokens/s", "total"), rows)
    click.echo("* is the form to take." if told.choice else "No form fits.")
