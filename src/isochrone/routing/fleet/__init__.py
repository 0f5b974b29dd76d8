"""The fleet: which places there are, as a file says and as nodes announce, and how each is built and retired."""

from .file import FleetFile, parse_fleet, read_fleet
from .live import Changes, Fleet, Member
from .nodes import Door, Nodes, NodesInMemory, node_key, specs_present
from .registry import KINDS, Factory, build
from .spec import ModelSpec, PlaceSpec
from .watch import Watch

__all__ = [
    "KINDS", "Changes", "Door", "Factory", "Fleet", "FleetFile", "Member", "ModelSpec", "Nodes", "NodesInMemory",
    "PlaceSpec", "Watch", "build", "node_key", "parse_fleet", "read_fleet", "specs_present",
]  # fmt: skip
