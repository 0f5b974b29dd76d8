"""Tokens guessed ahead and verified in one step: which, how many, and what was learned of both."""

from .drafter import Draft, Drafter
from .speculator import Candidate, Followed, Speculator
from .suffix import SuffixDrafter, TokenHistory

__all__ = ["Candidate", "Draft", "Drafter", "Followed", "Speculator", "SuffixDrafter", "TokenHistory"]
