"""Which target gets a request, and when a second one is tried beside it: pure functions over plain data."""

from .choose import choose
from .hedging import hedge_at_s, should_hedge
from .rules import ruled_out
from .settings import PolicySettings

__all__ = ["PolicySettings", "choose", "hedge_at_s", "ruled_out", "should_hedge"]
