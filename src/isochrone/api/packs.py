"""Kernels as a file that travels: compiled on one machine, installed into another's cache.

    pack = zip of  pack.json        version, compiler, target, model
                   <key>.so         one library, named by what went into it

A pack is code: install only what you would run.  Nothing in it is trusted to be whole: names and sizes are checked.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

from isochrone import __version__, paths
from isochrone.compiler.cache import library_key, source_hash
from isochrone.compiler.isa import TARGETS, Target, available_targets
from isochrone.compiler.plan import Plan
from isochrone.errors import BadConfig, Unsupported

ABOUT = "pack.json"
LIBRARY = re.compile(r"[0-9a-f]{32}\.so")
LIBRARY_BYTES_MAX = 64 << 20


@dataclass(frozen=True, slots=True)
class PackAbout:
    """What a pack says of itself.  compiler  hash of the compiler that made it: another one makes other kernels"""

    version: str
    compiler: str
    target: str
    model: str


def kernels_dir() -> Path:
    """Where compiled libraries are cached."""
    return paths.cache_dir() / "kernels"


def write_pack(file: Path, model: str, plan: Plan, target: Target, library: Path) -> PackAbout:
    """Export a library, written aside and renamed."""
    about = PackAbout(__version__, source_hash(), target.name, model)
    handle, aside = tempfile.mkstemp(dir=file.absolute().parent, prefix=file.name)
    os.close(handle)
    os.chmod(aside, 0o644)  # it is made to travel
    try:
        with zipfile.ZipFile(aside, "w", zipfile.ZIP_DEFLATED) as pack:
            pack.writestr(ABOUT, json.dumps(asdict(about)))
            pack.write(library, f"{library_key(plan.kernels, target)}.so")
        os.replace(aside, file)
    except BaseException:
        os.unlink(aside)
        raise
    return about


def install_pack(file: Path) -> PackAbout:
    """Put a pack's libraries where the loader looks.

    Raises BadConfig when it is no pack or of another version, Unsupported when this processor cannot run it.
    """
    try:
        with zipfile.ZipFile(file) as pack:
            about = PackAbout(**json.loads(_read(pack, ABOUT)))
            _check(file, about)
            for name in pack.namelist():
                if LIBRARY.fullmatch(name):
                    _install(paths.made(kernels_dir()) / name, _read(pack, name))
    except FileNotFoundError as error:
        raise BadConfig(f"There is no pack at {file}.", fix="Make it: isochrone compile MODEL --pack FILE") from error
    except (OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile) as error:
        raise BadConfig(f"{file} is not a pack of kernels: {error}.", fix="Export it again.") from error
    return about


def _check(file: Path, about: PackAbout) -> None:
    if about.compiler != source_hash():
        raise BadConfig(
            f"{file} was made by Isochrone {about.version} with another compiler than this {__version__}'s.",
            fix="Export it again with this version.",
        )
    names = [target.name for target in available_targets()]
    if about.target not in names:
        needs = TARGETS[about.target].needs if about.target in TARGETS else frozenset({about.target})
        raise Unsupported(
            f"{file} has kernels for {about.target}, and this processor can run {', '.join(names) or 'none'}.",
            fix=f"Export it for one of these with --isa; {about.target} needs {', '.join(sorted(needs))}.",
        )


def _read(pack: zipfile.ZipFile, name: str) -> bytes:
    if pack.getinfo(name).file_size > LIBRARY_BYTES_MAX:
        raise ValueError(f"{name} is larger than any library")
    return pack.read(name)


def _install(target: Path, data: bytes) -> None:
    if target.exists():
        return
    handle, aside = tempfile.mkstemp(dir=target.parent, prefix=target.name)
    with os.fdopen(handle, "wb") as out:
        out.write(data)
    os.replace(aside, target)
