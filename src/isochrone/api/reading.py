"""Where a model lies, and its tokenizer from the cached table when there is one."""

from __future__ import annotations

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

    return load_tokenizer(_model_file(path), tokenizers_dir())


def read_tokenizer_apart(path: Path) -> Tokenizer:
    """`read_tokenizer` for a process that must not import what reads checkpoints: another one makes the table."""
    from isochrone.text.prepare import prepare_tokenizer

    prepare_tokenizer(_model_file(path), tokenizers_dir())
    return read_tokenizer(path)


def tokenizers_dir() -> Path:
    """Where tables are cached."""
    return paths.cache_dir() / "tokenizers"


def _model_file(path: Path) -> Path:
    """A directory without config.json stands for the one GGUF file in it."""
    is_whole = path.is_file() or (path / "config.json").is_file()
    return path if is_whole else next(path.glob("*.gguf"), path)
