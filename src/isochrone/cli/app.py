"""The verbs, found by name and imported only when used; errors as a sentence and a way out."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from isochrone.errors import IsochroneError

DONE, FAILED, MISUSED, INTERRUPTED = 0, 1, 2, 130

VERBS = (
    "up", "chat", "complete", "pull", "models", "rm", "ps", "keys", "explain", "verify", "inspect", "probe", "predict",
    "bench", "compile", "fleet", "demo", "join", "import", "mcp", "replay", "config", "completion", "version",
)  # fmt: skip
"""In the order of a first day: each is the `command` of the module `isochrone.cli.<name>`."""

EXAMPLES = """\b
Examples:
  isochrone pull smollm2-135m
  isochrone up smollm2-135m
  isochrone complete smollm2-135m "The capital of France is"

\b
Exit codes: 0 done, 1 failed, 2 misused.
Every verb takes --json (results as JSON on stdout) and --debug (tracebacks).
"""


class Verbs(click.Group):
    """A group that imports a verb's file when that verb is named."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command: click.Command = import_module(f"isochrone.cli.{cmd_name}").command
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            import difflib  # only on the way to an error

            near = difflib.get_close_matches(args[0], VERBS, n=1, cutoff=0.0)[0]
            raise click.UsageError(f"There is no verb {args[0]!r}. Did you mean `isochrone {near}`?", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=Verbs, epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=lambda c, _, on: _version(c, on),
              help="Print the version and leave.")  # fmt: skip
def app() -> None:
    """Say how long you can wait; Isochrone answers in that time, and shows the proof."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command line and leave with its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    code = run(arguments)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command line and say how it ended: 0 done, 1 failed, 2 misused, 130 interrupted."""
    from isochrone.errors import BadConfig, BadRequest, IsochroneError

    try:
        code = app.main(args=list(arguments), prog_name="isochrone", standalone_mode=False)
    except IsochroneError as error:
        if "--debug" in arguments:
            raise
        _say(error, as_json="--json" in arguments)
        return MISUSED if isinstance(error, BadConfig | BadRequest) else FAILED
    except click.exceptions.Exit as leave:
        return leave.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        return DONE  # whoever read our output has read enough
    except Exception as error:
        if "--debug" in arguments:
            raise
        click.echo(f"A mistake of ours: {type(error).__name__}: {error}", err=True)
        click.echo("  Run the command again with --debug, and report what it prints.", err=True)
        return FAILED
    return code if isinstance(code, int) else DONE  # a verb that says no leaves with `Context.exit`


def _say(error: IsochroneError, *, as_json: bool) -> None:
    if as_json:
        import json

        click.echo(json.dumps({"error": {"code": error.code, "message": error.message, "fix": error.fix}}))
    click.echo(error.message, err=True)
    click.echo(f"  {error.fix}", err=True)


def _version(ctx: click.Context, wanted: bool) -> None:
    if wanted:
        from isochrone import __version__

        click.echo(f"isochrone {__version__}")
        ctx.exit()
