"""The execution of a choice: attempts, failover, hedges, and going on elsewhere with an answer that broke off."""

from .exchange import Exchange, Sent, Tally
from .execution import Execution
from .guide import Guide, Later, Option
from .settings import Settings
from .speech import Speech

__all__ = ["Exchange", "Execution", "Guide", "Later", "Option", "Sent", "Settings", "Speech", "Tally"]
