"""The common part of the parsers: text arrives in pieces, states take from it what they understand."""

from __future__ import annotations

from collections.abc import Callable

from .json_call import JsonCall
from .pieces import Called, Piece, Said, Thought, joined


class Scanner:
    """A parser whose `_state` is a method: it takes text from `_rest` and says whether it got anywhere.

    White space after words is held back until it is known that words follow: before a call it says nothing.
    """

    is_thinking = False

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        self._rest = ""
        self._white = ""
        self._pieces: list[Piece] = []
        self._is_ended = False
        self._num_calls = 0
        self._state: Callable[[], bool] = self._start

    def push(self, text: str) -> list[Piece]:
        self._rest += text
        while self._state():
            pass
        pieces, self._pieces = joined(self._pieces), []
        return pieces

    def finish(self) -> list[Piece]:
        self._is_ended = True
        pieces = self.push("")
        if self._white:
            pieces.append(Said(self._white))
            self._white = ""
        return joined(pieces)

    @property
    def num_held(self) -> int:
        return len(self._rest) + len(self._white)

    def _start(self) -> bool:
        raise NotImplementedError

    def _go(self, state: Callable[[], bool]) -> bool:
        self._state = state
        return True

    def _say(self, text: str) -> None:
        text = self._white + text
        words = text.rstrip()
        self._white = text[len(words) :]
        if words:
            self._pieces.append(Said(words))

    def _think(self, text: str) -> None:
        if text:
            self._pieces.append(Thought(text))

    def _begin_call(self, name: str) -> None:
        self._white = ""
        self._pieces.append(Called(self._num_calls, name))
        self._num_calls += 1

    def _argue(self, text: str) -> None:
        if text:
            self._pieces.append(Called(self._num_calls - 1, arguments=text))

    def _skip_white(self) -> bool:
        """Drop white space; True when something else follows."""
        self._rest = self._rest.lstrip()
        return bool(self._rest)

    def _until(self, *marks: str) -> tuple[str, str | None]:
        """(text before the first mark, the mark), both taken; or the text that surely belongs to none, and None."""
        rest = self._rest
        at, found = min(((rest.find(mark), mark) for mark in marks if mark in rest), default=(-1, None))
        if found is not None:
            self._rest = rest[at + len(found) :]
            return rest[:at], found
        keep = 0 if self._is_ended else max(num_begun(rest, mark) for mark in marks)
        self._rest = rest[len(rest) - keep :]
        return rest[: len(rest) - keep], None

    def _next_is(self, mark: str) -> bool | None:
        """Whether this mark comes next; None while that cannot be said."""
        if self._rest.startswith(mark):
            return True
        return None if mark.startswith(self._rest) and not self._is_ended else False


class JsonScanner(Scanner):
    """A scanner for formats whose calls are JSON objects."""

    def __init__(self, names: frozenset[str]) -> None:
        super().__init__(names)
        self._opening = ""
        self._call: JsonCall | None = None
        self._after_call: Callable[[], bool] = self._start

    @property
    def num_held(self) -> int:
        held = len(self._opening) + len(self._call.raw) if self._call and self._call.state == "reading" else 0
        return super().num_held + held

    def _open_call(self, opening: str, after: Callable[[], bool]) -> bool:
        """Read a call next.  opening  what led to it, to be said should it be none;  after  the state that follows"""
        self._opening, self._after_call, self._call = opening, after, JsonCall(self._names)
        return self._go(self._in_call)

    def _words(self) -> bool:
        """The state after what looked like a call and was none."""
        raise NotImplementedError

    def _in_call(self) -> bool:
        call = self._call
        assert call is not None
        was = call.state
        num = call.feed(self._rest)
        self._rest = self._rest[num:]
        if call.state == "failed" or (self._is_ended and call.state == "reading"):
            self._call = None
            self._rest = call.raw + self._rest
            self._say(self._opening)
            return self._go(self._words)
        if was == "reading" and call.name:
            self._begin_call(call.name)
        self._argue(call.take())
        return call.state == "done" and self._go(self._after_call)


def num_begun(text: str, mark: str) -> int:
    """How many characters at the end of a text may be the beginning of a mark."""
    for num in range(min(len(mark) - 1, len(text)), 0, -1):
        if text.endswith(mark[:num]):
            return num
    return 0
