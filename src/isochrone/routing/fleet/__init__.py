"""The fleet: which places there are, as a file says and as nodes announce, and how each is built and retired."""

from .spec import ModelSpec, PlaceSpec

__all__ = ["ModelSpec", "PlaceSpec"]
