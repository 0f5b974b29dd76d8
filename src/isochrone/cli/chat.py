"""`isochrone chat`"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from .output import note, print_json
from .verb import LOADING, answer_options, model_argument, settings_from, verb

if TYPE_CHECKING:
    from isochrone.api import Model


@verb(
    "isochrone chat smollm2-135m",
    'isochrone chat smollm2-135m --system "Answer in one sentence." --temperature 0.7',
    settings=LOADING,
)
@model_argument
@click.option("--system", help="What the model is told before the conversation.")
@answer_options
def command(model: str, system: str | None, answer: dict[str, Any], as_json: bool, **flags: Any) -> None:
    """Talk with a model; shows the time to the first token and the rate after each answer."""
    from isochrone.api import open_model
    from isochrone.api.facts import licence_here

    messages = [{"role": "system", "content": system}] if system else []
    settings = settings_from(flags)
    with open_model(model, settings) as loaded:
        licence = licence_here(model, settings.weights)
        note(f"{loaded.name}, licence {licence}, context {loaded.context}. Ctrl-D ends.")
        while (said := _said()) is not None:
            messages.append({"role": "user", "content": said})
            messages.append({"role": "assistant", "content": _answer(loaded, messages, answer, as_json)})


def _said() -> str | None:
    """The next line that is not empty; None at the end of input."""
    import readline  # noqa: F401  (gives input() history and editing)

    while True:
        try:
            line = input("> " if sys.stdin.isatty() else "").strip()
        except EOFError:
            return None
        if line:
            return line


def _answer(model: Model, messages: list[dict[str, str]], answer: dict[str, Any], as_json: bool) -> str:
    stream = model.stream(messages, **answer)
    if as_json:
        print_json(stream.read())
        return stream.read().text
    for piece in stream:
        click.echo(piece, nl=False)
    click.echo()
    note(stream.read().summary)
    return stream.read().text
