"""`isochrone import`"""

from __future__ import annotations

from pathlib import Path

import click

from .output import note, print_json
from .verb import verb


@verb("isochrone import litellm config.yaml > fleet.toml", is_native=False)
@click.argument("source", type=click.Choice(["litellm"]))
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def command(source: str, file: Path, as_json: bool) -> None:
    """Turn another gateway's configuration into a fleet file; what has no counterpart is listed on stderr."""
    from isochrone.routing.fleet.litellm import translate

    found = translate(_read(file))
    if as_json:
        return print_json({"fleet": found.text, "left_out": found.left_out})
    click.echo(found.text)
    for sentence in found.left_out:
        note(f"Not carried over: {sentence}")


def _read(file: Path) -> dict[str, object]:
    from isochrone.errors import BadConfig, MissingExtra

    try:
        import yaml
    except ImportError:
        raise MissingExtra("Reading YAML needs PyYAML.", fix="pip install 'isochrone[fleet]'") from None
    try:
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadConfig(f"{file} cannot be read: {error.strerror}.", fix="Name a file that is yours to read.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadConfig(f"{file} is no YAML: {' '.join(str(error).split())}.", fix="Correct that line.") from error
    if not isinstance(config, dict):
        raise BadConfig(f"{file} holds no table.", fix="Name the file that LiteLLM's proxy is started with.")
    return config
