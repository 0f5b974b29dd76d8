"""Which target gets a request: pure functions over plain data."""

from .choose import choose
from .rules import ruled_out
from .settings import PolicySettings

__all__ = ["PolicySettings", "choose", "ruled_out"]
