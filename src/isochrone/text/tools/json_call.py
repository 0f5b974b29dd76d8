"""One call written as a JSON object, `{"name": ..., "arguments": {...}}`, read letter by letter."""

from __future__ import annotations

import json
from typing import Literal

_WHITE = " \t\r\n"
_ARGUMENTS = ("arguments", "parameters")


class JsonCall:
    """Letters go in by `feed`; what is known comes out by `take`.

    state  reading, until the name of an offered tool is known; called, from then on; done, after the last brace;
           failed, when this is no call of an offered tool
    raw    the letters read, while it is not known that this is a call

    The keys may come in any order, and the arguments as an object or, as some models write them, as a text of one.
    """

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        self.state: Literal["reading", "called", "done", "failed"] = "reading"
        self.raw = ""
        self.name = ""
        self._expects: Literal["open", "key", "in_key", "colon", "value", "in_value"] = "open"
        self._key = self._value = self._arguments = ""
        self._extent = Extent()
        self._is_argued = False

    def feed(self, text: str) -> int:
        """How many letters belonged to the call; fewer than all only when it is done or failed."""
        for at, letter in enumerate(text):
            if self.state in ("done", "failed"):
                return at
            if self.state == "reading":
                self.raw += letter
            self._push(letter)
        return len(text)

    def take(self) -> str:
        """The arguments known since the last call of this."""
        if self.state not in ("called", "done"):
            return ""
        taken, self._arguments = self._arguments, ""
        return taken

    def _push(self, letter: str) -> None:
        match self._expects:
            case "in_value":
                self._push_value(letter)
            case "in_key":
                self._push_key(letter)
            case "value" if letter not in _WHITE:
                self._extent, self._value, self._expects = Extent(), "", "in_value"
                self._push_value(letter)
            case "key" if letter == '"':
                self._extent, self._key, self._expects = Extent(), "", "in_key"
                self._push_key(letter)
            case "key" if letter == "}":
                self._close()
            case "key" if letter == ",":
                return
            case "open" if letter == "{":
                self._expects = "key"
            case "colon" if letter == ":":
                self._expects = "value"
            case _ if letter not in _WHITE:
                self.state = "failed"

    def _push_key(self, letter: str) -> None:
        self._key += letter
        if self._extent.push(letter) == "last":
            self._key, self._expects = _text_of(self._key) or "", "colon"

    def _push_value(self, letter: str) -> None:
        place = self._extent.push(letter)
        if place != "outside":
            if self._is_object_of_arguments():
                self._arguments += letter  # passed on as it comes
            else:
                self._value += letter
        if place != "inside":
            self._expects = "key"
            self._end_value()
        if place == "outside" and self.state in ("reading", "called"):
            self._push(letter)

    def _is_object_of_arguments(self) -> bool:
        return self._key in _ARGUMENTS and not self._is_argued and self._extent.first == "{"

    def _end_value(self) -> None:
        if self._key == "name" and self.state == "reading":
            name = _text_of(self._value)
            if name in self._names:
                self.name, self.state, self.raw = str(name), "called", ""
            else:
                self.state = "failed"
        elif self._key in _ARGUMENTS and not self._is_argued:
            if not self._is_object_of_arguments():
                inner = "" if self._value == "null" else _text_of(self._value)
                self._arguments = self._value if inner is None else inner or "{}"
            self._is_argued = True

    def _close(self) -> None:
        if self.state == "reading":
            self.state = "failed"
            return
        if not self._is_argued:
            self._arguments = "{}"
        self.state = "done"


class Extent:
    """Where one JSON value ends: counts brackets outside of texts."""

    def __init__(self) -> None:
        self.first = ""
        self._depth = 0
        self._is_text = self._is_escaped = False

    def push(self, letter: str) -> Literal["inside", "last", "outside"]:
        """`outside`: a number or word had ended before this letter, which belongs to what follows."""
        if self.first and self.first not in '"{[' and letter in ",}]" + _WHITE:
            return "outside"
        self.first = self.first or letter
        if self._is_text:
            self._is_text = letter != '"' or self._is_escaped
            self._is_escaped = letter == "\\" and not self._is_escaped
        elif letter == '"':
            self._is_text = True
        else:
            self._depth += (letter in "{[") - (letter in "}]")
        is_whole = self.first in '"{[' and self._depth == 0 and not self._is_text
        return "last" if is_whole else "inside"


def _text_of(value: str) -> str | None:
    """The text that a JSON text stands for; None for any other value."""
    try:
        text = json.loads(value)
    except ValueError:
        return None
    return text if isinstance(text, str) else None
