"""The one road to a tokenizer: its cached table if there is one, else the checkpoint, which leaves a table behind."""

from __future__ import annotations

import mmap
import os
import zlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from isochrone.errors import NotFound

from .table import Table
from .tokenizer import Tokenizer

if TYPE_CHECKING:  # reading a checkpoint is for the first start only; later ones import none of it
    from .spec import TokenizerSpec

PathLike: TypeAlias = "str | os.PathLike[str]"
Source: TypeAlias = "PathLike | Mapping[str, Any] | Callable[[], Mapping[str, Any]]"
"""A GGUF file or a Hugging Face directory; or the metadata of a GGUF file, or a function that reads it when needed."""

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "tokenizer.model", "spiece.model",
    "special_tokens_map.json", "generation_config.json", "config.json", "chat_template.jinja", "added_tokens.json",
)  # fmt: skip
"""Every file of a directory that can change its tokenizer: their sizes and times are the key of the table."""


def load_tokenizer(source: Source, cache_dir: PathLike | None = None, *, key: str | None = None) -> Tokenizer:
    """The tokenizer of a model.

    cache_dir   where its table is kept (none without); the next start maps the table and does not touch `source`
    key         what changes when the model changes. Bare metadata needs one to be cached; files have their own

    Raises NotFound when a directory has no tokenizer, BadModel when it is broken or of a kind not supported.
    """
    if isinstance(source, str | os.PathLike):
        source = os.path.abspath(source)
        key = key or _key_of_files(source)
    if cache_dir is None or key is None:
        return Tokenizer(Table(memoryview(_packed(source, key))))
    path = _table_path(cache_dir, key)
    table = _mapped(path, key)
    if table is None:
        data = _packed(source, key)
        _write(path, data)
        table = Table(memoryview(data))
    return Tokenizer(table)


def is_cached(path: PathLike, cache_dir: PathLike) -> bool:
    """Whether the next `load_tokenizer` of this path will only map its table."""
    source = os.path.abspath(path)
    key = _key_of_files(source)
    return _mapped(_table_path(cache_dir, key), key) is not None


def _table_path(cache_dir: PathLike, key: str) -> str:
    return os.path.join(cache_dir, f"{zlib.crc32(key.encode('utf-8', 'surrogateescape')):08x}.tokenizer")


def _mapped(path: str, key: str) -> Table | None:
    """The table of a key; None when there is none, or it is of another version or damaged and must be made anew."""
    try:
        with open(path, "rb") as file:
            table = Table(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return table if table.facts.get("key") == key else None


def _packed(source: Source, key: str | None) -> bytes:
    from .packing import pack

    return pack(_spec(source), key)


def _spec(source: Source) -> TokenizerSpec:
    if isinstance(source, str | os.PathLike):
        if any(os.path.isfile(os.path.join(source, name)) for name in TOKENIZER_FILES):
            from .from_hf import spec_from_directory

            return spec_from_directory(source)
        from isochrone.weights import open_checkpoint

        source = open_checkpoint(os.fspath(source)).metadata
    from .from_gguf import spec_from_gguf

    return spec_from_gguf(source() if callable(source) else source)


def _write(path: str, data: bytes) -> None:
    """Written aside and renamed, so that another process sees a whole table or none."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    aside = f"{path}.{os.getpid()}"
    try:
        with open(aside, "wb") as file:
            file.write(data)
        os.replace(aside, path)
    except BaseException:
        if os.path.exists(aside):
            os.unlink(aside)
        raise


def _key_of_files(path: str) -> str:
    """The path, with size and time of every file there that can hold the tokenizer."""
    facts = [path]
    try:
        names = sorted(os.listdir(path)) if os.path.isdir(path) else [""]
        for name in names:
            if not name or name in TOKENIZER_FILES or name.endswith(".gguf"):
                stat = os.stat(os.path.join(path, name) if name else path)
                facts.append(f"{name} {stat.st_size} {stat.st_mtime_ns}")
    except OSError as error:
        raise NotFound(
            f"{path} cannot be read: {error.strerror}.", fix="Check the path, or `isochrone pull` the model."
        ) from error
    return "\n".join(facts)
