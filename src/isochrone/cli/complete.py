"""`isochrone complete`"""

from __future__ import annotations

import sys
from typing import Any

import click

from .output import note, print_json
from .verb import LOADING, answer_options, model_argument, settings_from, verb


@verb(
    'isochrone complete smollm2-135m "The capital of France is"',
    'isochrone complete smollm2-135m --chat "Name three rivers." --within 2s',
    "isochrone complete smollm2-135m - --max-tokens 64 < story.txt",
    settings=LOADING,
)
@model_argument
@click.argument("prompt")
@click.option("--chat", "is_chat", is_flag=True, help="Ask it as a question, by the model's template.")
@answer_options
def command(model: str, prompt: str, is_chat: bool, answer: dict[str, Any], as_json: bool, **flags: Any) -> None:
    """Continue PROMPT (`-` reads it from stdin) and print the text as it comes."""
    from isochrone.api import open_model

    text = sys.stdin.read() if prompt == "-" else prompt
    asked = [{"role": "user", "content": text}] if is_chat else text
    settings = settings_from(flags)
    with open_model(model, settings) as loaded:
        stream = loaded.stream(asked, **answer)
        if as_json:
            return print_json(stream.read())
        for piece in stream:
            click.echo(piece, nl=False)
        click.echo()
        from isochrone.api.facts import licence_here  # after the answer: no token waits for it

        note(f"{stream.read().summary}; licence: {licence_here(model, settings.weights)}")
