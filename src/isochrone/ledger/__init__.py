"""What was decided, what happened and what it cost, and what is kept: keys with their limits, timelines, decisions,
spending, stored responses, receipts, nodes, agents' runs; one SQLite file, or one PostgreSQL that gateways share."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .keys import Key, Keyring, Scope
from .ledger import Ledger, decided_between, decisions_of, receipts_of, timelines_of
from .responses import Responses
from .timelines import Timeline
from .writer import WriterStats

if TYPE_CHECKING:
    from .decisions import AttemptRecord, DecisionRecord, Decisions
    from .nodes import Node, Nodes
    from .runs import Run, Runs
    from .spending import Hold, Patience, Spending

__all__ = [
    "AttemptRecord", "DecisionRecord", "Decisions", "Hold", "Key", "Keyring", "Ledger", "Node", "Nodes", "Patience",
    "Responses", "Run", "Runs", "Scope", "Spending", "Timeline", "WriterStats", "decided_between", "decisions_of",
    "receipts_of", "timelines_of",
]  # fmt: skip

_LATER = {
    "AttemptRecord": "decisions", "DecisionRecord": "decisions", "Decisions": "decisions", "Node": "nodes",
    "Nodes": "nodes", "Run": "runs", "Runs": "runs", "Hold": "spending", "Patience": "spending", "Spending": "spending",
}  # fmt: skip
"""Of no use to one model behind one server: imported when asked for."""


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(f".{_LATER[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
