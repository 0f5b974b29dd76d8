"""What was decided, what happened and what it cost, and what is kept: keys with their limits, timelines, decisions,
spending, stored responses, receipts, nodes, agents' runs; one SQLite file, or one PostgreSQL that gateways share."""

from .decisions import AttemptRecord, DecisionRecord, Decisions
from .keys import Key, Keyring, Scope
from .ledger import Ledger, decided_between, decisions_of, receipts_of, timelines_of
from .nodes import Node, Nodes
from .responses import Responses
from .runs import Run, Runs
from .spending import Hold, Patience, Spending
from .timelines import Timeline
from .writer import WriterStats

__all__ = [
    "AttemptRecord", "DecisionRecord", "Decisions", "Hold", "Key", "Keyring", "Ledger", "Node", "Nodes", "Patience",
    "Responses", "Run", "Runs", "Scope", "Spending", "Timeline", "WriterStats", "decided_between", "decisions_of",
    "receipts_of", "timelines_of",
]  # fmt: skip
