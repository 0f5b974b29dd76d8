"""Which file a model is, and whether it is still the one it was: answered without opening it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from ..errors import BadModel, NotFound

FINGERPRINT_BYTES = 1 << 16
"""Bytes from a file's start that a fingerprint covers: the identity, the config and the first names of a header."""


def checkpoint_file(path: Path) -> Path:
    """The file or directory that is the model: a directory without config.json stands for the one GGUF file in it."""
    if not os.path.exists(path):
        raise NotFound(
            f"{path} does not exist, or may not be read.", fix="Check the path, or `isochrone pull` the model."
        )
    if not path.is_dir() or os.path.exists(path / "config.json"):
        return path
    found = sorted(path.glob("*.gguf"))
    if len(found) != 1:
        names = ", ".join(file.name for file in found[:8]) or "none"
        raise BadModel(
            f"{path} has no config.json, and not one GGUF file but {len(found)}: {names}.",
            fix="Name the GGUF file itself.",
        )
    return found[0]


def fingerprint(path: Path | str) -> str:
    """Tells whether a model is still the one that was packed, without reading it: 32 hex digits.

    Covers name, size, time of change, inode and first bytes of every file.  Raises NotFound or BadModel.
    """
    path = checkpoint_file(Path(path))
    digest = hashlib.sha256()
    files = [file for file in sorted(path.iterdir()) if file.is_file()] if path.is_dir() else [path]
    for file in files:
        try:
            with open(file, "rb") as stream:
                status = os.fstat(stream.fileno())
                digest.update(repr((file.name, status.st_size, status.st_mtime_ns, status.st_ino)).encode())
                digest.update(hashlib.sha256(stream.read(FINGERPRINT_BYTES)).digest())
        except OSError as error:
            raise BadModel(f"{file} cannot be read: {error}.", fix="Check its permissions.") from error
    return digest.hexdigest()[:32]
