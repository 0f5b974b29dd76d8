"""Thoughts told apart from the answer, where a model writes them between two marks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from .lark import Lark, text
from .pieces import Parser, Piece, Said
from .scanner import Scanner

Opening: TypeAlias = Literal["open", "may", "no"]
"""`open`: the prompt ends inside a thought.  `may`: the answer may begin with one.  `no`: the prompt has closed it."""


@dataclass(frozen=True, slots=True)
class Thinking:
    """The marks around a thought, and a word that may follow the first."""

    open: str
    close: str
    label: str = ""

    def opening(self, prompt: str) -> Opening:
        """What a prompt leaves to the answer."""
        end = prompt.rstrip()
        if end.endswith((self.open, self.open + self.label)):
            return "open"
        return "no" if end.endswith(self.close) else "may"

    def rule(self, opening: Opening, rest: str, lark: Lark) -> str:
        """The Lark expression of a thought and then the rest."""
        if opening == "no":
            return rest
        through = lark.rule("thought", f"{lark.through(self.close)} /\\n{{0,2}}/")
        begun = f"{lark.mark(self.open)} {text(self.label)}" if self.label else lark.mark(self.open)
        thought = through if opening == "open" else f"({begun} {through})?"
        return f"{thought} {lark.rule('answer', rest)}"


class ThinkingParser(Scanner):
    """inner  reads what follows the thought; None where that is only words"""

    def __init__(self, thinking: Thinking, opening: Opening, inner: Parser | None) -> None:
        super().__init__(frozenset())
        self._thinking, self._inner = thinking, inner
        self._begun = ""
        self.is_thinking = opening == "open"
        if opening == "no":
            self._state = self._answer
        elif opening == "open":
            self._state = self._opened

    @property
    def num_held(self) -> int:
        return super().num_held + len(self._begun) + (self._inner.num_held if self._inner else 0)

    def finish(self) -> list[Piece]:
        pieces = super().finish()
        return pieces + (self._inner.finish() if self._inner else [])

    def _start(self) -> bool:
        words = self._rest.lstrip()
        self._begun += self._rest[: len(self._rest) - len(words)]
        self._rest = words
        found = self._next_is(self._thinking.open)
        if found is None or not words:
            return self._is_ended and bool(self._begun) and self._go(self._give_back)
        if not found:
            return self._go(self._give_back)
        self._rest = words[len(self._thinking.open) :]
        self._begun, self.is_thinking = "", True
        return self._go(self._opened)

    def _give_back(self) -> bool:
        """It was no thought: the white space in front belongs to the answer."""
        self._rest, self._begun = self._begun + self._rest, ""
        return self._go(self._answer)

    def _opened(self) -> bool:
        found = self._next_is(self._thinking.label)
        if found is None:
            return False
        self._rest = self._rest[len(self._thinking.label) if found else 0 :]
        return self._go(self._white_before)

    def _white_before(self) -> bool:
        return self._skip_white() and self._go(self._thoughts)

    def _thoughts(self) -> bool:
        words, mark = self._until(self._thinking.close)
        words = self._white + words
        thought = words.rstrip()
        self._white = words[len(thought) :]
        self._think(thought)
        if mark is None:
            if self._is_ended:
                self._white = ""
            return False
        self._white, self.is_thinking = "", False
        return self._go(self._white_after)

    def _white_after(self) -> bool:
        return self._skip_white() and self._go(self._answer)

    def _answer(self) -> bool:
        rest, self._rest = self._rest, ""
        if rest:
            self._pieces += self._inner.push(rest) if self._inner else [Said(rest)]
        return False
