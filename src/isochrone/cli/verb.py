"""What all verbs share: --json, --debug, examples in the help, options made from the settings' one declaration."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from isochrone.config import Settings


LOADING = ("context", "kv_memory", "kv_type", "weights", "threads", "isa", "pack", "offline")
"""Keys of the settings that say how a model is loaded."""


class _Duration(click.ParamType[float]):
    """`300ms`, `2s`: a number with its unit, as seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        from isochrone import units
        from isochrone.errors import BadConfig

        try:
            return units.parse_duration(value)
        except BadConfig as error:
            self.fail(f"{error.message} {error.fix}", param, ctx)


DURATION = _Duration()


class Verb(click.Command):
    """A command with --json and --debug, whose settings options are made when first looked at."""

    setting_keys: tuple[str, ...] = ()
    is_native = True

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        if not any(param.name == "debug" for param in self.params):
            self.params += [_setting_option(key) for key in self.setting_keys]
            self.params += [
                click.Option(["--json", "as_json"], is_flag=True, help="Print results as JSON."),
                click.Option(["--debug"], is_flag=True, expose_value=False, help="Show tracebacks."),
            ]
        return super().get_params(ctx)

    def invoke(self, ctx: click.Context) -> Any:
        if self.is_native:
            from isochrone.platforms import check_platform

            check_platform()
            # Nothing here multiplies with BLAS: its threads would only cost start-up time and memory.
            os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        return super().invoke(ctx)


def verb(
    *examples: str, settings: Sequence[str] = (), is_native: bool = True
) -> Callable[[Callable[..., None]], Verb]:
    """Make a verb of a function.  Its docstring is the help; the keys in `settings` become options.

    is_native  it works on models, so the platform is checked first
    The function gets `as_json`, and each setting by its key as text, None when the flag was not given.
    """

    def decorate(function: Callable[..., None]) -> Verb:
        epilog = "\b\nExamples:\n" + "\n".join(f"  {example}" for example in examples)
        # The module is called after the verb, so a verb may have a Python word for a name (`complete`, `compile`).
        made = click.command(function.__module__.rpartition(".")[2], cls=Verb, epilog=epilog)(function)
        made.setting_keys, made.is_native = tuple(settings), is_native
        return made

    return decorate


def model_argument(
    function: Callable[..., None] | None = None, *, required: bool = True
) -> Callable[..., Any]:
    """The argument MODEL: a short name, a path or a hub id; the shell completes models that are here."""
    decorate = click.argument("model", required=required, shell_complete=_models_here)
    return decorate if function is None else decorate(function)


def answer_options(function: Callable[..., None]) -> Callable[..., None]:
    """The options that shape an answer, handed over as one keyword `answer`: arguments of `api.Model.stream`."""

    @wraps(function)
    def collected(**values: Any) -> None:
        answer = {key: values.pop(key) for key in keys}
        function(answer={**answer, "stop": tuple(answer["stop"])}, **values)

    options = (
        click.option("--max-tokens", type=click.IntRange(0), help="Most tokens of the answer."),
        click.option("--temperature", type=click.FloatRange(0), default=0.0, help="0 (the default) is greedy."),
        click.option("--top-k", type=click.IntRange(0), default=0, help="Draw among this many; 0 is off."),
        click.option("--top-p", type=click.FloatRange(0, 1), default=1.0, help="Draw within this probability."),
        click.option("--min-p", type=click.FloatRange(0, 1), default=0.0, help="Least share of the likeliest."),
        click.option("--seed", type=int, help="The same seed gives the same answer."),
        click.option("--stop", multiple=True, help="Text that ends the answer; may be given again."),
        click.option("--within", "within_s", type=DURATION, help="Time the answer may take, such as 2s."),
    )
    keys = ("max_tokens", "temperature", "top_k", "top_p", "min_p", "seed", "stop", "within_s")
    for option in reversed(options):
        collected = option(collected)
    return collected


def settings_from(flags: dict[str, Any]) -> Settings:
    """The settings of this run: these flags over environment, file and defaults."""
    from isochrone import config

    given = {key: ("true" if value is True else value) for key, value in flags.items() if value not in (None, False)}
    return config.resolve(given).settings


def _setting_option(key: str) -> click.Option:
    from isochrone import config

    flag = f"--{key.replace('_', '-')}"
    explain = f"{config.keys()[key]} [{config.PREFIX}{key.upper()}]"
    return click.Option([flag, key], is_flag=key in config.switches(), default=None, help=explain)


def _models_here(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    from isochrone.weights import store

    return [name for name in store.known_names() if name.startswith(incomplete)]
