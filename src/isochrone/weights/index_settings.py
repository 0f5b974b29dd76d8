"""Which Python package index this machine uses: pip's own variables and files, read without pip."""

from __future__ import annotations

import configparser
import importlib.util
import os
import re
import sys
import sysconfig
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import BadConfig

KEYS = ("index-url", "extra-index-url", "find-links", "no-index", "cert", "timeout")


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """Where packages are looked for: pages of links first, then indexes in their order."""

    find_links: tuple[str, ...]
    indexes: tuple[str, ...]
    cert: str | None
    timeout_s: float


def index_settings(environ: Mapping[str, str]) -> IndexSettings:
    """pip's settings as pip would see them: its variables over its files, later files over earlier ones.

    Raises BadConfig where a file or a value cannot be read.
    """
    values: dict[str, str] = {}
    for file in _config_files(environ):
        values |= _read(file)
    for key in KEYS:
        variable = "PIP_" + key.upper().replace("-", "_")
        if environ.get(variable):
            values[key] = environ[variable]
    # A venv without pip is often one that uv made, and then uv's variables name the index.
    index = values.get("index-url") or environ.get("UV_DEFAULT_INDEX") or environ.get("UV_INDEX_URL") or default_index()
    indexes = (*([index] if index else []), *values.get("extra-index-url", "").split())
    if values.get("no-index", "false").lower() in ("1", "true", "yes", "on"):
        indexes = ()
    return IndexSettings(
        find_links=tuple(values.get("find-links", "").split()),
        indexes=indexes,
        cert=values.get("cert"),
        timeout_s=_timeout_s(values.get("timeout", environ.get("PIP_DEFAULT_TIMEOUT", "15"))),
    )


def default_index() -> str | None:
    """The index that pip itself falls back to: said by the pip that is here, or by the one Python carries along."""
    for text in _pip_sources():
        if found := re.search(r"""PackageIndex\(\s*["'](https://[^"']+?)/*["']""", text):
            return f"{found[1]}/simple"
    return None


def _pip_sources() -> Iterator[str]:
    name = "pip/_internal/models/index.py"
    pip = importlib.util.find_spec("pip")
    if pip is not None and pip.origin is not None:
        file = Path(pip.origin).parent.parent / name
        if file.is_file():
            yield file.read_text(encoding="utf-8")
    # A venv without pip: the standard library (or Debian, in a folder of its own) holds pip's wheel for new ones.
    bundled = Path(sysconfig.get_path("stdlib")) / "ensurepip" / "_bundled"
    for wheel in (*bundled.glob("pip-*.whl"), *Path("/usr/share/python-wheels").glob("pip-*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            yield archive.read(name).decode()


def _timeout_s(text: str) -> float:
    try:
        return max(1.0, float(text))
    except ValueError:
        raise BadConfig(f"pip's timeout is {text!r}, which is no number.", fix="Set it to seconds.") from None


def _config_files(environ: Mapping[str, str]) -> Iterator[Path]:
    named = environ.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return
    home = Path(environ.get("HOME", "~")).expanduser()
    for directory in environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":"):
        yield Path(directory) / "pip" / "pip.conf"
    yield Path("/etc/pip.conf")
    yield home / ".pip" / "pip.conf"
    yield Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "pip" / "pip.conf"
    yield Path(sys.prefix) / "pip.conf"
    if named:
        yield Path(named)


def _read(file: Path) -> dict[str, str]:
    parser = configparser.RawConfigParser()
    try:
        parser.read(file, encoding="utf-8")
    except (configparser.Error, OSError, UnicodeDecodeError) as error:
        raise BadConfig(f"{file} cannot be read: {error}.", fix="Correct pip's settings file.") from error
    sections = (dict(parser.items(name)) for name in ("global", "download") if parser.has_section(name))
    return {key: value for section in sections for key, value in section.items() if key in KEYS}
