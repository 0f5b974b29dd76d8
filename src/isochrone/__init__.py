"""Isochrone: language-model inference inside a latency budget, wherever the compute is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from isochrone.api import Completion, Model, Stream, load

__all__ = ["Completion", "Model", "Stream", "__version__", "load"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """The Python face is imported when it is asked for: `isochrone.load`, not `import isochrone`, pays for it."""
    if name in ("Completion", "Model", "Stream", "load"):
        from importlib import import_module

        return getattr(import_module("isochrone.api"), name)
    raise AttributeError(f"module 'isochrone' has no attribute {name!r}")
