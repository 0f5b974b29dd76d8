"""Where a model lies, and its tokenizer from the cached table when there is one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from isochrone import paths

if TYPE_CHECKING:
    from isochrone.text import Tokenizer


def locate(model: str, *, offline: bool) -> Path:
    """Where a model is on this machine, pulled first if it has to be.  Raises NotFound, Unreachable, BadModel."""
    from isochrone.weights import here

    found = here.find(model)
    if found is not None:
        return found
    from isochrone.weights import store  # a warm start never pays for what pulling needs

    return store.pull(model, offline=offline)


def read_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of the model at `path`, a GGUF file or a directory; its table is cached beside kernels.

    Raises NotFound, BadModel.
    """
    from isochrone.text import load_tokenizer

    cache = paths.cache_dir() / "tokenizers"
    file = path if path.is_file() or (path / "config.json").is_file() else next(path.glob("*.gguf"), path)
    if file.is_dir():
        return load_tokenizer(file, cache)
    about = os.stat(file)

    def metadata() -> dict[str, object]:
        from isochrone.weights import open_checkpoint

        return dict(open_checkpoint(file).tokenizer.metadata)

    return load_tokenizer(metadata, cache, key=f"{file.resolve()} {about.st_size} {about.st_mtime_ns}")
