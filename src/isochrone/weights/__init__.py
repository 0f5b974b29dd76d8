"""Checkpoints from disk to kernel layouts: readers, packing, and the local store that pulls and verifies.

The names below are imported when they are used: whoever only asks what is here (`here`, `catalogue`) loads no NumPy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .checkpoint import Checkpoint, TokenizerSource, open_checkpoint
    from .tensor import StoredTensor

__all__ = ["Checkpoint", "StoredTensor", "TokenizerSource", "open_checkpoint"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        home = ".tensor" if name == "StoredTensor" else ".checkpoint"
        return getattr(import_module(home, __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
