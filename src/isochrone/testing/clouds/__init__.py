"""Clouds to test against: servers that speak a provider's wire protocol and answer what a script says."""

from .app import Cloud, serving
from .script import Answer, Block, Call, Count, Fault, FaultKind, Play, Script

__all__ = ["Answer", "Block", "Call", "Cloud", "Count", "Fault", "FaultKind", "Play", "Script", "serving"]
