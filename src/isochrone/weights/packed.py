"""Packed copies: a model's weights in kernel layout, made once and then only mapped.

    ISOPACK1 | u64 header bytes | JSON {about, tensors: name -> [offset, bytes], end} | pad | tensors, page-aligned

One file for each (model fingerprint, plan hash).  It is written aside and renamed, so a copy is whole or absent;
a copy that does not parse counts as absent and is made again.
"""

from __future__ import annotations

import json
import mmap
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import paths
from ..errors import BadModel, IsochroneError
from .blocks import U8
from .exclusive import held, publish
from .mapping import MappedFile

MAGIC = b"ISOPACK1"
PAGE_BYTES = 4096
HEADER_BYTES_MAX = 1 << 25
SUFFIX = ".packed"


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """A packed copy, open.

    about    what its maker wrote about it (configuration, plan, formats): plain JSON data
    tensors  name -> u8 [bytes], starting on a page
    problem  why nothing was kept on disk and the copy lies in this process's memory, or None
    """

    about: Mapping[str, Any]
    tensors: Mapping[str, U8]
    mapped: MappedFile | None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class PackedCopy:
    """A packed copy on disk, as `models` lists it.  used_at: seconds since the epoch."""

    path: Path
    model: str
    num_bytes: int
    used_at: float


@dataclass(frozen=True, slots=True)
class _Layout:
    head: bytes
    extents: dict[str, tuple[int, int]]
    num_bytes: int


def packed_path(fingerprint: str, plan_hash: str) -> Path:
    """Where the copy of a model for a plan lies, or would lie."""
    return _folder() / f"{fingerprint}-{plan_hash}{SUFFIX}"


def open_packed(path: Path) -> Packed | None:
    """Map a packed copy; None where there is none that is whole.  Marks it as used now."""
    try:
        mapped = MappedFile.open(path)
        about, extents = _parse(mapped)
    except IsochroneError:
        return None
    try:
        os.utime(path)
    except OSError:
        # A read-only cache works too; only its order of eviction is then that of making.
        return Packed(about, _views(mapped.data, extents), mapped)
    return Packed(about, _views(mapped.data, extents), mapped)


def open_or_pack(
    path: Path,
    about: Mapping[str, Any],
    sizes: Mapping[str, int],
    fill: Callable[[Mapping[str, U8]], None],
) -> Packed:
    """Open a packed copy, or make it: one process packs, others wait and map what it made.

    about  JSON data; `about["model"]` is the name that listings show
    sizes  tensor name -> bytes
    fill   writes every tensor into the zeroed arrays it is given

    Where the cache cannot be written, the copy is made in memory and `problem` says so.
    Raises what `fill` raises, and Overloaded when another process never finishes.
    """
    found = open_packed(path)
    if found is not None:
        return found
    layout = _plan(about, sizes)
    try:
        with held(path.with_suffix(".lock")):
            found = open_packed(path)
            if found is not None:
                return found
            with PackedWriter(path, layout) as tensors:
                fill(tensors)
            found = open_packed(path)
    except OSError as error:
        return _in_memory(about, layout, fill, f"{path.parent} cannot keep packed weights: {error}")
    if found is None:
        return _in_memory(about, layout, fill, f"{path} was removed while it was made")
    return found


def list_packed() -> list[PackedCopy]:
    """The packed copies on disk, latest used first."""
    copies = []
    for path in _folder().glob(f"*{SUFFIX}"):
        try:
            status, about = path.stat(), _parse(MappedFile.open(path))[0]
        except (OSError, IsochroneError):
            copies.append(PackedCopy(path, "(unreadable)", path.stat().st_size if path.exists() else 0, 0.0))
            continue
        copies.append(PackedCopy(path, str(about.get("model", "(unnamed)")), status.st_size, status.st_mtime))
    return sorted(copies, key=lambda copy: -copy.used_at)


class PackedWriter:
    """Writes a copy aside; leaving the `with` block without an error gives it its name."""

    def __init__(self, path: Path, layout: _Layout) -> None:
        self._path, self._layout, self._part = path, layout, Path()
        self._map: mmap.mmap | None = None

    def __enter__(self) -> Mapping[str, U8]:
        for stale in self._path.parent.glob(f".{self._path.stem}.*.part"):
            stale.unlink(missing_ok=True)  # we hold the lock, so its maker is dead
        fd, name = tempfile.mkstemp(prefix=f".{self._path.stem}.", suffix=".part", dir=self._path.parent)
        self._part = Path(name)
        try:
            # Reserved, not just sized: a full disk is an error here, and would be a fatal signal later.
            os.posix_fallocate(fd, 0, self._layout.num_bytes)
            self._map = mmap.mmap(fd, self._layout.num_bytes)
        except BaseException:
            self._part.unlink(missing_ok=True)
            raise
        finally:
            os.close(fd)
        self._map[: len(self._layout.head)] = self._layout.head
        return _views(np.frombuffer(self._map, np.uint8), self._layout.extents)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        assert self._map is not None
        if error is not None:
            self._part.unlink(missing_ok=True)
            return
        self._map.madvise(mmap.MADV_DONTNEED)
        publish(self._part, self._path)


def _folder() -> Path:
    return paths.cache_dir() / "packed"


def _round_up(num_bytes: int) -> int:
    return -(-num_bytes // PAGE_BYTES) * PAGE_BYTES


def _plan(about: Mapping[str, Any], sizes: Mapping[str, int]) -> _Layout:
    """Offsets in a header count from its padded end, so its own length does not change them."""
    relative, end = {}, 0
    for name, num_bytes in sizes.items():
        relative[name] = (end, num_bytes)
        end = _round_up(end + num_bytes)
    text = json.dumps({"about": about, "tensors": relative, "end": end}, separators=(",", ":")).encode()
    head = MAGIC + len(text).to_bytes(8, "little") + text
    start = _round_up(len(head))
    return _Layout(head, {name: (start + offset, size) for name, (offset, size) in relative.items()}, start + end)


def _parse(mapped: MappedFile) -> tuple[dict[str, Any], dict[str, tuple[int, int]]]:
    data = mapped.data
    num_bytes = int.from_bytes(data[8:16].tobytes(), "little")
    broken = BadModel(f"{mapped.path} is no whole packed copy.", fix="Delete it: it is made again.")
    if data[:8].tobytes() != MAGIC or num_bytes > min(HEADER_BYTES_MAX, len(data) - 16):
        raise broken
    start = _round_up(16 + num_bytes)
    try:
        match json.loads(data[16 : 16 + num_bytes].tobytes()):
            case {"about": dict(about), "tensors": dict(tensors), "end": int(end)} if start + end == len(data):
                extents = {name: (start + offset, size) for name, (offset, size) in tensors.items()}
            case _:
                raise broken
    except (ValueError, TypeError, RecursionError) as error:
        raise broken from error
    if not all(start <= first and 0 <= size <= len(data) - first for first, size in extents.values()):
        raise broken
    return about, extents


def _views(data: U8, extents: Mapping[str, tuple[int, int]]) -> dict[str, U8]:
    return {name: data[first : first + size] for name, (first, size) in extents.items()}


def _in_memory(
    about: Mapping[str, Any], layout: _Layout, fill: Callable[[Mapping[str, U8]], None], problem: str
) -> Packed:
    tensors = _views(np.frombuffer(mmap.mmap(-1, max(PAGE_BYTES, layout.num_bytes)), np.uint8), layout.extents)
    fill(tensors)
    return Packed(json.loads(json.dumps(about)), tensors, None, problem)
