"""Print the reference pages from the code and the figures from claims.toml.

    python -m docs.build           write what changed
    python -m docs.build --check   write nothing; exit 1 and name the pages that differ
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import click

from docs.anthropic_fields import anthropic_page
from docs.claims import Claim, read_claims
from docs.ollama_fields import ollama_page
from docs.openai_fields import openai_page
from docs.responses_fields import responses_page
from isochrone import config, errors
from isochrone.cli.app import FAILED, MISUSED, VERBS, app
from isochrone.gateway import faults

ROOT = Path(__file__).resolve().parent.parent
PRINTED = "<!-- Printed from the code by `make docs`; change the code, not this page. -->\n\n"
_FIGURE = re.compile(r"(<!-- claim: (?P<id>[a-z0-9-]+) -->).*?(<!-- /claim -->)", re.DOTALL)


def pages(root: Path = ROOT) -> dict[Path, str]:
    """Every page that is made, or holds figures that are made, with the text it should have."""
    reference = root / "docs" / "reference"
    made = {
        reference / "commands.md": commands_page(),
        reference / "settings.md": settings_page(),
        reference / "errors.md": errors_page(),
        reference / "openai-fields.md": PRINTED + openai_page(),
        reference / "anthropic-fields.md": PRINTED + anthropic_page(),
        reference / "ollama-fields.md": PRINTED + ollama_page(),
        reference / "responses-fields.md": PRINTED + responses_page(),
    }
    claims = {claim.id: claim for claim in read_claims(root / "docs" / "claims.toml")}
    made[reference / "figures.md"] = figures_page(claims.values())
    for page in prose_pages(root):
        if page not in made:
            made[page] = with_figures(page.read_text(), claims, page)
    return made


def prose_pages(root: Path = ROOT) -> tuple[Path, ...]:
    """README, CHANGELOG and every page of the manual."""
    return (root / "README.md", root / "CHANGELOG.md", *sorted((root / "docs").rglob("*.md")))


def with_figures(text: str, claims: Mapping[str, Claim], page: Path) -> str:
    """The text with each marked figure as claims.toml states it."""

    def figure(match: re.Match[str]) -> str:
        claim = claims.get(match["id"])
        if claim is None:
            raise SystemExit(f"{page} shows the figure {match['id']}, and claims.toml has none of that name.")
        return f"{match[1]}{claim.text}{match[3]}"

    return _FIGURE.sub(figure, text)


def commands_page() -> str:
    """The help of every verb."""
    parts = [PRINTED, "# Commands\n\n", "```text\n", _help_of(app, ()), "```\n"]
    for name in VERBS:
        command = app.get_command(click.Context(app), name)
        assert command is not None  # VERBS are the group's own
        parts += [f"\n## isochrone {name}\n\n```text\n", _help_of(command, (name,)), "```\n"]
    return "".join(parts)


def settings_page() -> str:
    """Every setting: key in the file, variable, flag, default, meaning."""
    lines = [
        PRINTED, "# Settings\n\n",
        "A setting is taken from the flag, else from the environment, else from the settings file, else it has its\n",
        "default. `isochrone config` shows each value on your machine with its origin.\n\n",
        "The settings file is TOML with one key a line. It is `config.toml` in the settings directory\n",
        "(`$XDG_CONFIG_HOME/isochrone`, usually `~/.config/isochrone`), or the file that `ISOCHRONE_CONFIG` names.\n\n",
        "| key | variable | default | what it does |\n|---|---|---|---|\n",
    ]  # fmt: skip
    for value in config.resolve({}, {}, ROOT / "no such file").values:
        lines.append(f"| `{value.key}` | `{config.PREFIX}{value.key.upper()}` | {value.shown} | {value.explain} |\n")
    lines += ["\n## Variables that are no settings\n\n", "| variable | what it does |\n|---|---|\n"]
    lines += [f"| `{name}` | {explain} |\n" for name, explain in config.OTHER_VARIABLES.items()]
    return "".join(lines)


def errors_page() -> str:
    """Every error: its code on the wire, HTTP status, exit code, meaning."""
    lines = [
        PRINTED, "# Errors\n\n",
        "Every error is a sentence with the facts and a way out. Over HTTP it is an OpenAI error object with the\n",
        "code below; on the command line it goes to stderr, with the exit code below.\n\n",
        "| error | code | HTTP | exit | meaning |\n|---|---|---|---|---|\n",
    ]  # fmt: skip
    for kind in sorted(_family(errors.IsochroneError), key=lambda kind: (kind.status, kind.__name__)):
        misused = issubclass(kind, errors.BadConfig | errors.BadRequest)
        exit_code = "-" if kind.__module__ == faults.__name__ else str(MISUSED if misused else FAILED)
        meaning = (kind.__doc__ or "").strip().splitlines()[0]
        lines.append(f"| `{kind.__name__}` | `{kind.code}` | {kind.status} | {exit_code} | {meaning} |\n")
    return "".join(lines)


def figures_page(claims: Iterable[Claim]) -> str:
    """Every figure that the pages state, with what it takes to challenge it."""
    lines = [
        PRINTED, "# Figures\n\n",
        "Every figure in the README and these pages, with the command that reproduces it. `make claims` runs them\n",
        "again and marks the ones that no longer hold; figures depend on the machine, so run them on yours.\n",
    ]  # fmt: skip
    for claim in claims:
        lines += [
            f"\n## {claim.what}\n\n**{claim.text}** (`{claim.id}`, {claim.bound.replace('_', ' ')}, ",
            f"tolerance {claim.tolerance:.0%}), measured {claim.date} on {claim.machine}:\n\n",
            f"```sh\n{claim.command}\n```\n\nThe value is at `{claim.json_path}` of its JSON output.\n",
        ]
    return "".join(lines)


def _family(kind: type[errors.IsochroneError]) -> Iterator[type[errors.IsochroneError]]:
    for child in kind.__subclasses__():
        if child.__module__ in (errors.__name__, faults.__name__):  # and none that a test has made
            yield child
            yield from _family(child)


def _help_of(command: click.Command, names: tuple[str, ...]) -> str:
    parent = click.Context(app, info_name="isochrone", terminal_width=100, max_content_width=100)
    context = click.Context(command, parent=parent, info_name=names[0], terminal_width=100) if names else parent
    return "\n".join(line.rstrip() for line in command.get_help(context).splitlines()) + "\n"


def main(arguments: list[str]) -> int:
    differing = [page for page, text in pages().items() if not page.exists() or page.read_text() != text]
    if "--check" in arguments:
        for page in differing:
            print(f"{page.relative_to(ROOT)} differs from the code; run `make docs`.")
        return 1 if differing else 0
    made = pages()
    for page in differing:
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(made[page])
        print(f"wrote {page.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
