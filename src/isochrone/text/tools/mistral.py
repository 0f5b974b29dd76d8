"""Mistral: `[TOOL_CALLS]`, then a JSON list of calls, or (since 2024-11) `name[ARGS]{...}` for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from .format import Function, Offer, ToolFormat, json_call
from .json_call import Extent
from .lark import ANY_TEXT, Lark, text
from .pieces import Parser
from .scanner import JsonScanner

OPEN, ARGUMENTS, ID = "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"
ID_CHARS = 9


class Mistral(ToolFormat):
    """named  each call is `[TOOL_CALLS]name[ARGS]{...}`, rather than all in one list"""

    name = "mistral"
    marks = (OPEN, ARGUMENTS, ID)
    id_chars = ID_CHARS

    def __init__(self, *, named: bool) -> None:
        self._named = named

    def parser(self, names: frozenset[str]) -> Parser:
        return _Parser(names)

    def opening(self, lark: Lark) -> str:
        return lark.mark(OPEN)

    def call(self, function: Function, lark: Lark) -> str:
        if self._named:
            return f"{text(function.name)} {lark.mark(ARGUMENTS)} {lark.arguments(function)}"
        return json_call(function, lark)

    def calls(self, call: str, offer: Offer, lark: Lark) -> str:
        if self._named:
            return f"{call} ({lark.mark(OPEN)} {call})*" if offer.parallel else call
        more = f'(", " {call})*' if offer.parallel else ""
        return f'"[" {call} {more} "]"'

    def free(self, calls: str, lark: Lark) -> str:
        return f"{lark.through(OPEN)} {calls} | {lark.rule('prose', ANY_TEXT)}"

    def turns(self, turns: Sequence[Mapping[str, Any]], functions: Sequence[Function]) -> list[dict[str, Any]]:
        """Ids of nine letters or digits, which the templates insist on."""
        out = []
        for turn in turns:
            copy = dict(turn)
            if copy.get("tool_call_id"):
                copy["tool_call_id"] = _short(copy["tool_call_id"])
            if copy.get("tool_calls"):
                copy["tool_calls"] = [call | {"id": _short(call["id"])} for call in copy["tool_calls"]]
            out.append(copy)
        return out


def _short(id: str) -> str:
    return id if len(id) == ID_CHARS and id.isalnum() else sha256(id.encode()).hexdigest()[:ID_CHARS]


class _Parser(JsonScanner):
    def _start(self) -> bool:
        return self._words()

    def _words(self) -> bool:
        self._state = self._words
        words, mark = self._until(OPEN)
        self._say(words)
        return mark is not None and self._go(self._opened)

    def _opened(self) -> bool:
        if not self._skip_white():
            return self._is_ended and self._give_back()
        if self._rest[0] == "[":
            self._rest = self._rest[1:]
            return self._open_call(f"{OPEN}[", self._in_list)
        if self._rest[0] == "{":
            return self._open_call(OPEN, self._between)
        return self._go(self._naming)

    def _in_list(self) -> bool:
        if not self._skip_white():
            return False
        letter, self._rest = self._rest[0], self._rest[1:]
        if letter == ",":
            return self._open_call(letter, self._in_list)
        return self._go(self._between)

    def _naming(self) -> bool:
        """`name[ARGS]{`, where an id or nothing may stand for the mark."""
        at = self._rest.find("{")
        longest = max(map(len, self._names), default=0) + len(ARGUMENTS) + len(ID) + 64
        if at < 0:
            is_hopeless = self._is_ended or len(self._rest) > longest or OPEN in self._rest
            return is_hopeless and self._give_back()
        name = self._rest[:at].split(ARGUMENTS)[0].split(ID)[0].strip()
        if name not in self._names:
            return self._give_back()
        self._rest = self._rest[at:]
        self._begin_call(name)
        self._extent = Extent()
        return self._go(self._arguing)

    def _give_back(self) -> bool:
        """What followed the mark is no call: all of it is words."""
        self._say(OPEN)
        return self._go(self._words)

    def _arguing(self) -> bool:
        for at, letter in enumerate(self._rest):
            if self._extent.push(letter) != "inside":
                self._argue(self._rest[: at + 1])
                self._rest = self._rest[at + 1 :]
                return self._go(self._between)
        self._argue(self._rest)
        self._rest = ""
        return False

    def _between(self) -> bool:
        return self._skip_white() and self._go(self._words)
