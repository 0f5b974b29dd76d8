"""A checkpoint, opened: what the model is, where its weights lie, and what it brings for text."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import BadModel, NotFound
from .directory import read_directory
from .gguf import expect_text, read_gguf
from .mapping import MappedFile
from .tensor import StoredTensor

Kind = Literal["gguf", "hf"]
FINGERPRINT_BYTES = 1 << 16
"""Bytes from a file's start that a fingerprint covers: the identity, the config and the first names of a header."""


@dataclass(frozen=True, slots=True, eq=False)
class TokenizerSource:
    """Where a tokenizer is to be had: a directory with tokenizer.json ("hf"), or the metadata of a GGUF file."""

    kind: Kind
    path: Path
    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """An opened model.

    metadata     the GGUF header's values, or config.json
    tensors      by the names of the file
    other_types  name -> type of tensors that cannot be weights (index buffers and the like)
    generation   generation_config.json of a directory; empty for GGUF
    """

    path: Path
    kind: Kind
    metadata: Mapping[str, Any]
    tensors: Mapping[str, StoredTensor]
    other_types: Mapping[str, str]
    generation: Mapping[str, Any]
    tokenizer: TokenizerSource
    chat_template: str | None
    license: str | None
    files: tuple[MappedFile, ...]

    @property
    def num_bytes(self) -> int:
        """Bytes of all tensors as stored."""
        return sum(tensor.num_bytes for tensor in self.tensors.values())

    def drop_pages(self) -> None:
        """Give back the memory of weights read so far, as after packing them."""
        for file in self.files:
            file.drop_pages()


def open_checkpoint(path: Path | str) -> Checkpoint:
    """Open a GGUF file, a Hugging Face directory, or a directory that holds one GGUF file.

    Reads headers only.  Raises NotFound or BadModel.
    """
    path = checkpoint_file(Path(path))
    if path.is_dir():
        return _open_directory(path)
    return _open_gguf(path)


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


def _open_gguf(path: Path) -> Checkpoint:
    file = read_gguf(path)
    return Checkpoint(
        path=path,
        kind="gguf",
        metadata=file.metadata,
        tensors=file.tensors,
        other_types={},
        generation={},
        tokenizer=TokenizerSource("gguf", path, file.metadata),
        chat_template=expect_text(path, file.metadata, "tokenizer.chat_template"),
        license=expect_text(path, file.metadata, "general.license"),
        files=(file.mapped,),
    )


def _open_directory(path: Path) -> Checkpoint:
    model = read_directory(path)
    return Checkpoint(
        path=path,
        kind="hf",
        metadata=model.config,
        tensors=model.tensors,
        other_types=model.other_types,
        generation=model.generation,
        tokenizer=TokenizerSource("hf", path, model.config),
        chat_template=model.chat_template,
        license=model.license,
        files=model.files,
    )
