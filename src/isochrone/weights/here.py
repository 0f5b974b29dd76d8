"""What is on this machine: a path, a short name or a hub id found without a network and without a library.

A warm start takes this road, so that this file imports nothing that takes time.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from .. import paths
from ..errors import NotFound
from .catalogue import CATALOGUE, CatalogueEntry

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}(:[\w./-]{1,200}\.gguf)?")
"""owner/name, or owner/name:file.gguf."""


def known_names() -> list[str]:
    """The short names, for help and completion."""
    return sorted(CATALOGUE)


def find(name: str) -> Path | None:
    """Where a model is on this machine, or None.  Opens no connection and imports no library.

    Raises NotFound for a path that does not exist, and for what is no name at all.
    """
    if name in CATALOGUE:
        path = target_of(CATALOGUE[name])
        return path if is_here(CATALOGUE[name], path) else None
    if name and "\0" not in name and _is_path(name):
        named = os.path.expanduser(name)
        if not os.path.exists(named):
            raise NotFound(f"{name} does not exist.", fix="Check the path.")
        return Path(named)
    if not HUB_ID.fullmatch(name) or ".." in name:
        import difflib  # only on the way to an error

        near = difflib.get_close_matches(name, known_names(), 1)
        raise NotFound(
            f"{name!r} is no path, no short name ({', '.join(known_names())}) and no hub id (owner/name).",
            fix=f"Did you mean {near[0]}?" if near else "Name a model in one of these ways.",
        )
    return find_in_hub_cache(name)


def find_in_hub_cache(name: str) -> Path | None:
    """A hub model that is whole in the shared cache, or None.  Imports nothing: a warm start takes this road."""
    repository, _, file = name.partition(":")
    snapshot = _snapshot(repository)
    if snapshot is None:
        return None
    if file:
        return snapshot / file if (snapshot / file).is_file() else None
    return snapshot if _is_whole(snapshot) else None


def hub_names() -> list[str]:
    """Hub models that are whole in the shared cache: owner/name, or owner/name:file.gguf for one file of several."""
    found = []
    for folder in sorted(_cache_dir().glob("models--*--*")):
        repository = folder.name.removeprefix("models--").replace("--", "/", 1)
        snapshot = _snapshot(repository)
        if snapshot is not None and _is_whole(snapshot):
            found.append(repository)
        elif snapshot is not None:
            found += [f"{repository}:{file.relative_to(snapshot)}" for file in sorted(snapshot.rglob("*.gguf"))]
    return [name for name in found if HUB_ID.fullmatch(name)]


def hub_folder(repository: str) -> Path:
    """Where the shared cache keeps a repository."""
    return _cache_dir() / ("models--" + repository.replace("/", "--"))


def target_of(entry: CatalogueEntry) -> Path:
    """Where the file of a short-named model belongs."""
    return paths.data_dir() / "models" / entry.name / entry.file


def is_here(entry: CatalogueEntry, path: Path) -> bool:
    """Whether it lies there, whole."""
    # A file gets this name only after its hash was checked; its size tells whether a hand has been at it since.
    return path.is_file() and path.stat().st_size == entry.num_bytes


def _is_path(name: str) -> bool:
    return (
        os.path.exists(name) or name.startswith(("/", "./", "../", "~")) or (name.endswith(".gguf") and ":" not in name)
    )


def _snapshot(repository: str) -> Path | None:
    """The files of the revision that was fetched last."""
    folder = hub_folder(repository)
    try:
        return folder / "snapshots" / (folder / "refs" / "main").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None


def _cache_dir() -> Path:
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()


def _is_whole(snapshot: Path) -> bool:
    """Config and every weight file are there; a broken pull leaves some of them out."""
    if not (snapshot / "config.json").is_file():
        return len(list(snapshot.glob("*.gguf"))) == 1
    if (snapshot / SINGLE).is_file():
        return True
    try:
        shards = set(json.loads((snapshot / INDEX).read_bytes())["weight_map"].values())
        return all((snapshot / shard).is_file() for shard in shards)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False
