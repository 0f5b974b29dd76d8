"""What all verbs share: --json, --debug, examples in the help, options made from the settings' one declaration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from isochrone.config import Settings


class Verb(click.Command):
    """A command with --json and --debug, whose settings options are made when first looked at."""

    setting_keys: tuple[str, ...] = ()
    is_native = False

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
            from .platforms import check_platform

            check_platform()
        return super().invoke(ctx)


def verb(
    *examples: str, settings: Sequence[str] = (), is_native: bool = False
) -> Callable[[Callable[..., None]], Verb]:
    """Make a verb of a function.  Its docstring is the help; the keys in `settings` become options.

    is_native  it runs generated code, so the platform is checked first
    The function gets `as_json`, and each setting by its key as text, None when the flag was not given.
    """

    def decorate(function: Callable[..., None]) -> Verb:
        epilog = "\b\nExamples:\n" + "\n".join(f"  {example}" for example in examples)
        # The module is called after the verb, so a verb may have a Python word for a name (`complete`, `compile`).
        made = click.command(function.__module__.rpartition(".")[2], cls=Verb, epilog=epilog)(function)
        made.setting_keys, made.is_native = tuple(settings), is_native
        return made

    return decorate


def model_argument(function: Callable[..., None]) -> Callable[..., None]:
    """The argument MODEL: a short name, a path or a hub id; the shell completes models that are here."""
    return click.argument("model", shell_complete=_models_here)(function)


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
