"""The one road to a tokenizer: its cached table if there is one, else the checkpoint, which leaves a table behind."""

from __future__ import annotations

import mmap
import os
import zlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from .table import Table
from .tokenizer import Tokenizer, load_library

if TYPE_CHECKING:  # reading a checkpoint is for the first start only; later ones import none of it
    from .spec import TokenizerSpec

PathLike: TypeAlias = "str | os.PathLike[str]"
Source: TypeAlias = "PathLike | Mapping[str, Any] | Callable[[], Mapping[str, Any]]"
"""A Hugging Face directory, the metadata of a GGUF file, or a function that reads such metadata when it is needed."""

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "tokenizer.model", "spiece.model",
    "special_tokens_map.json", "generation_config.json", "config.json", "chat_template.jinja", "added_tokens.json",
)  # fmt: skip
"""Every file of a directory that can change its tokenizer: their sizes and times are the key of the table."""


def load_tokenizer(source: Source, cache_dir: PathLike | None = None, *, key: str | None = None) -> Tokenizer:
    """The tokenizer of a model.

    cache_dir   where its table is kept (none without); the next start maps the table and does not touch `source`
    key         what changes when the model changes, its file's path, size and time, say. GGUF metadata needs one to
                be cached; a directory has its own

    Raises NotFound when a directory has no tokenizer, BadModel when it is broken or of a kind not supported.
    """
    if key is None and isinstance(source, str | os.PathLike):
        key = _directory_key(os.path.abspath(source))
    if cache_dir is None or key is None:
        return Tokenizer(Table(memoryview(_packed(source, key))))
    path = os.path.join(cache_dir, f"{zlib.crc32(key.encode('utf-8', 'surrogateescape')):08x}.tokenizer")
    table = _mapped(path, key)
    if table is None:
        data = _packed(source, key)
        _write(path, data)
        table = Table(memoryview(data))
    return Tokenizer(table)


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

    data = pack(_spec(source), key)
    load_library(Table(memoryview(data)).sections["library"])  # refuse a broken tokenizer now, not at a first request
    return data


def _spec(source: Source) -> TokenizerSpec:
    if isinstance(source, str | os.PathLike):
        from .from_hf import spec_from_directory

        return spec_from_directory(source)
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


def _directory_key(directory: str) -> str:
    facts = [directory]
    for name in TOKENIZER_FILES:
        try:
            stat = os.stat(os.path.join(directory, name))
        except OSError:
            continue  # each of them may be absent
        facts.append(f"{name} {stat.st_size} {stat.st_mtime_ns}")
    return "\n".join(facts)
