"""What can be made again: packed weights, kernels, tokenizers and facts, kept within one limit together.

Whatever was used longest ago goes first.  A process that maps a file keeps it until it ends.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .. import paths

KINDS = {"packed": "*.packed", "kernels": "*.so", "tokenizers": "*.tokenizer", "facts": "*.json"}
"""Directory of the cache -> the files in it that count."""


@dataclass(frozen=True, slots=True)
class CachedFile:
    """A file that can be made again.  used_at: seconds since the epoch, as well as the file system knows"""

    path: Path
    num_bytes: int
    used_at: float


def cached_files() -> list[CachedFile]:
    """All of them, latest used first."""
    found = []
    for folder, pattern in KINDS.items():
        for path in (paths.cache_dir() / folder).glob(pattern):
            try:
                status = path.stat()
            except FileNotFoundError:
                continue  # another process was quicker
            # A mapped file's time of access moves once a day at most: exact enough to tell old from used.
            found.append(CachedFile(path, status.st_size, max(status.st_mtime, status.st_atime)))
    return sorted(found, key=lambda file: -file.used_at)


def choose_evicted(
    files: Iterable[CachedFile], limit_bytes: int, keep: frozenset[Path] = frozenset()
) -> list[CachedFile]:
    """Which files must go, oldest use first, so that the rest fits the limit; those to keep stay in any case."""
    files = list(files)
    excess, evicted = sum(file.num_bytes for file in files) - limit_bytes, []
    for file in sorted(files, key=lambda file: file.used_at):
        if excess > 0 and file.path not in keep:
            evicted.append(file)
            excess -= file.num_bytes
    return evicted


def evict(limit_bytes: int, keep: frozenset[Path] = frozenset()) -> list[CachedFile]:
    """Delete files until the rest fits the limit; returns the deleted."""
    return [file for file in choose_evicted(cached_files(), limit_bytes, keep) if delete(file.path)]


def delete(path: Path) -> bool:
    """Delete one file; returns whether it was there."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True
