"""A fleet on one machine, of real processes, to be watched and tormented."""

from .fleet import LocalFleet, Node

__all__ = ["LocalFleet", "Node"]
