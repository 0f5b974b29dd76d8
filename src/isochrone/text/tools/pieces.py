"""What an answer is made of once its markup is read: words for the caller, thoughts, and calls of tools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias


@dataclass(frozen=True, slots=True)
class Said:
    """Text for whoever asked."""

    text: str


@dataclass(frozen=True, slots=True)
class Thought:
    """Text that the model wrote to itself before answering."""

    text: str


@dataclass(frozen=True, slots=True)
class Called:
    """What a call gained.  index  of the call in its answer;  name  on its first piece only;  arguments  JSON text"""

    index: int
    name: str = ""
    arguments: str = ""


Piece: TypeAlias = Said | Thought | Called


class Parser(Protocol):
    """One answer, read as it streams.  However the text is split over pushes, the joined pieces are the same."""

    @property
    def num_held(self) -> int:
        """Characters taken in of which it is not yet known what they are."""
        ...

    @property
    def is_thinking(self) -> bool:
        """Whether what comes now is thought."""
        ...

    def push(self, text: str) -> list[Piece]: ...

    def finish(self) -> list[Piece]:
        """What was held, now that no more text comes."""
        ...


def joined(pieces: Sequence[Piece]) -> list[Piece]:
    """The same pieces with neighbours of one kind made one."""
    out: list[Piece] = []
    for piece in pieces:
        match out[-1] if out else None, piece:
            case Said(before), Said(text):
                out[-1] = Said(before + text)
            case Thought(before), Thought(text):
                out[-1] = Thought(before + text)
            case Called(index, name, before), Called(same, "", more) if index == same:
                out[-1] = Called(index, name, before + more)
            case _:
                out.append(piece)
    return out
