"""`isochrone verify`"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from .output import note, print_json
from .verb import LOADING, settings_from, verb


@verb(
    "isochrone verify 9f2c51d07a6b4e8f",
    "isochrone verify receipt.json --model ./model.gguf",
    settings=LOADING,
)
@click.argument("receipt")
@click.option("--model", help="The model that gave the answer; the one that the receipt names unless given.")
def command(receipt: str, model: str | None, as_json: bool, **flags: Any) -> None:
    """Compute an answer again from its receipt, and compare it token for token.

    RECEIPT is a file, or the x-request-id of an answer that this machine gave.  Exits with 1 when a token differs.
    """
    from isochrone.api import verifying

    verdicts = []
    for one in verifying.read_receipts(receipt):
        note(f"Computing {len(one.answer_ids)} tokens of {model or one.model or 'the model'} again.")
        verdicts.append(verifying.verify(one, settings_from(flags), model=model))
    if as_json:
        print_json([asdict(verdict) for verdict in verdicts])
    else:
        for verdict in verdicts:
            click.echo(verdict.summary)
    if not all(verdict.is_same for verdict in verdicts):
        click.get_current_context().exit(1)
