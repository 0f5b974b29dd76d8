"""What happened and what is kept: keys, timelines of requests, stored responses, receipts; one SQLite file."""

from .keys import Key, Keyring, Scope
from .ledger import Ledger, receipts_of, timelines_of
from .responses import Responses
from .timelines import Timeline
from .writer import WriterStats

__all__ = ["Key", "Keyring", "Ledger", "Responses", "Scope", "Timeline", "WriterStats", "receipts_of", "timelines_of"]
