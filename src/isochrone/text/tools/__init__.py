"""Calls of tools as models write them: which form a chat template wants, read as it streams, held to by a grammar."""

from .choose import Dialect, dialect_of
from .format import Function, Offer, ToolFormat
from .pieces import Called, Parser, Piece, Said, Thought
from .thinking import Opening

__all__ = [
    "Called", "Dialect", "Function", "Offer", "Opening", "Parser", "Piece", "Said", "Thought", "ToolFormat",
    "dialect_of",
]  # fmt: skip
