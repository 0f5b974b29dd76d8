"""Compiled kernels on disk: found by what went into them, built in a child process when missing.

Key: the kernels' specs, the target, and the text of the compiler itself.  No pickle, no time stamps; the directory
belongs to its owner alone, and a file that does not load is built again.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

from .. import errors
from ..errors import IsochroneError, MissingExtra
from .targets import Target


@lru_cache(maxsize=1)
def source_hash() -> str:
    """Hash of the compiler's own sources: another compiler may make other code."""
    digest = hashlib.sha256()
    here = Path(__file__).parent
    for path in sorted(here.glob("*.py")):
        digest.update(path.read_bytes())
    digest.update((here.parent / "graph" / "formats.py").read_bytes())
    return digest.hexdigest()


def library_key(kernels: dict[str, list[Any]], target: Target) -> str:
    """Names a library: same key, same code."""
    text = json.dumps([target.name, target.features, source_hash(), kernels], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def find_library(kernels: dict[str, list[Any]], target: Target, directory: Path) -> Path | None:
    """The library of these kernels if it was built before."""
    path = directory / f"{library_key(kernels, target)}.so"
    return path if path.exists() else None


def library_for(kernels: dict[str, list[Any]], target: Target, directory: Path) -> Path:
    """The library of these kernels, built now if it is not there.

    Raises MissingExtra where it must be built and llvmlite is not installed.
    """
    found = find_library(kernels, target, directory)
    return found if found else _build(kernels, target, directory)


def _build(kernels: dict[str, list[Any]], target: Target, directory: Path) -> Path:
    import subprocess  # a warm start never needs it

    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    out = directory / f"{library_key(kernels, target)}.so"
    order = json.dumps({"target": target.name, "kernels": kernels, "out": str(out)})
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(
        [sys.executable, "-m", "isochrone.compiler.build"],
        input=order, text=True, capture_output=True, env=environment, check=False,
    )  # fmt: skip
    if done.returncode == 0:
        return out
    try:
        told = json.loads(done.stderr.splitlines()[-1])
        kind = getattr(errors, told["type"])
    except (ValueError, LookupError, AttributeError):
        raise IsochroneError(
            f"The compiling process ended with status {done.returncode}: {done.stderr[-2000:]}",
            fix="Report this with the message above.",
        ) from None
    assert issubclass(kind, IsochroneError)
    if issubclass(kind, MissingExtra):
        raise MissingExtra(told["message"], fix=told["fix"])
    raise kind(told["message"], fix=told["fix"])
