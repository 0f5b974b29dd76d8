"""Which models are on this machine, what they take, and how to be rid of them.

Three kinds lie here: models pulled by a short name, models of the hub in the cache that all its tools share, and
packed copies whose model is somewhere else (named by a path) or is gone.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import IsochroneError, NotFound
from .cached import delete
from .catalogue import CATALOGUE, CatalogueEntry
from .checkpoint import open_checkpoint
from .exclusive import held
from .fingerprint import fingerprint
from .here import find, find_in_hub_cache, hub_folder, hub_names, is_here, target_of
from .packed import PackedCopy, list_packed


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model that is here.

    path          None where only packed copies are left, or the model is one named by its path
    num_bytes     of its own files, 0 likewise
    packed_bytes  of its packed copies
    """

    name: str
    path: Path | None
    num_bytes: int
    packed_bytes: int
    license: str | None


def models() -> list[StoredModel]:
    """Every model that is here: short-named, of the hub, and packed from elsewhere."""
    copies, found = list_packed(), []
    for name, path in _pulled():
        own = [copy for copy in copies if copy.path.name.startswith(fingerprint(path))]
        copies = [copy for copy in copies if copy not in own]
        found.append(StoredModel(name, path, _size(path), _total(own), _license(name, path)))
    for name in sorted({copy.model for copy in copies}):
        found.append(StoredModel(name, None, 0, _total(c for c in copies if c.model == name), None))
    return found


def remove(name: str) -> int:
    """Delete a model that was pulled, with its packed copies; of any other model its packed copies alone.

    name  as for `find`, or as `models` lists what was packed from elsewhere
    Returns the bytes freed.  A server that maps any of them keeps them until it ends.
    Raises NotFound where there is nothing to delete; files that were not pulled by name stay.
    """
    freed = sum(copy.num_bytes for copy in _copies_of(name) if delete(copy.path))
    if name in CATALOGUE:
        freed += _remove_entry(CATALOGUE[name])
    elif name in hub_names():
        freed += _remove_from_hub_cache(name)
    if not freed:
        raise NotFound(f"Of {name} nothing is here that was pulled or packed by Isochrone.", fix="isochrone models")
    return freed


def packed_copies(model: Path) -> list[PackedCopy]:
    """The packed copies of a model as it lies there now."""
    prefix = fingerprint(model)
    return [copy for copy in list_packed() if copy.path.name.startswith(prefix)]


def _pulled() -> Iterator[tuple[str, Path]]:
    for name, entry in sorted(CATALOGUE.items()):
        if is_here(entry, target_of(entry)):
            yield name, target_of(entry)
    for name in hub_names():
        path = find_in_hub_cache(name)
        if path is not None:
            yield name, path


def _copies_of(name: str) -> list[PackedCopy]:
    try:
        path = find(name)
    except NotFound:
        path = None
    own = packed_copies(path) if path is not None else []
    return own or [copy for copy in list_packed() if copy.model == name and path is None]


def _license(name: str, path: Path) -> str | None:
    if name in CATALOGUE:
        return CATALOGUE[name].license
    try:
        return open_checkpoint(path).license
    except IsochroneError:
        return None  # it is listed all the same: what is broken takes room too


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def _total(copies: Iterator[PackedCopy] | list[PackedCopy]) -> int:
    return sum(copy.num_bytes for copy in copies)


def _remove_entry(entry: CatalogueEntry) -> int:
    target = target_of(entry)
    if not target.parent.exists():
        return 0
    with held(target.parent / ".lock"):
        freed = sum(file.stat().st_size for file in target.parent.rglob("*") if file.is_file())
        target.unlink(missing_ok=True)
        target.with_name(f".{target.name}.part").unlink(missing_ok=True)
        shutil.rmtree(target.parent / ".pull", ignore_errors=True)
    return freed


def _remove_from_hub_cache(name: str) -> int:
    """The whole repository, or one GGUF file of several with the data it points to."""
    repository, _, file = name.partition(":")
    folder = hub_folder(repository)
    if not file:
        freed = _size(folder / "blobs")
        shutil.rmtree(folder)
        return freed
    link = find_in_hub_cache(name)
    assert link is not None, "hub_names lists what is there"
    data, freed = link.resolve(), link.stat().st_size
    delete(link)
    delete(data)
    return freed
