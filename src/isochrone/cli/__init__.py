"""The `isochrone` command: one thin file per verb."""

from .app import main

__all__ = ["main"]
