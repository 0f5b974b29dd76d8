"""A checkpoint, opened: what the model is, where its weights lie, and what it brings for text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .directory import read_directory
from .fingerprint import checkpoint_file
from .gguf import expect_text, read_gguf
from .mapping import MappedFile
from .tensor import StoredTensor

Kind = Literal["gguf", "hf"]


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
