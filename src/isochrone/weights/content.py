"""What a model holds, as one hash: the same wherever its files lie, and whoever copied them."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from .. import paths
from .fingerprint import checkpoint_file, fingerprint

_ENDINGS = (".safetensors", ".json", ".gguf")


def content_hash(path: Path | str) -> str:
    """SHA-256 of a model's file, or of the names and hashes of a directory's; 64 hex digits.

    Reads everything once, and is remembered in the cache until the files change.  Raises NotFound, BadModel, OSError.
    """
    path = checkpoint_file(Path(path))
    kept = paths.cache_dir() / "hashes" / fingerprint(path)
    try:
        return kept.read_text()
    except FileNotFoundError:
        found = _hash(path)
    paths.made(kept.parent)
    handle, temporary = tempfile.mkstemp(dir=kept.parent)
    with open(handle, "w") as stream:
        stream.write(found)
    os.replace(temporary, kept)  # whole or not at all
    return found


def _hash(path: Path) -> str:
    if path.is_file():
        return _file_hash(path)
    files = sorted(file for file in path.iterdir() if file.suffix in _ENDINGS)
    names = "".join(f"{_file_hash(file)}  {file.name}\n" for file in files)
    return hashlib.sha256(names.encode()).hexdigest()


def _file_hash(path: Path) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
