"""Calls as bare JSON that is the whole answer, which is words unless it begins with a brace."""

from __future__ import annotations

from .format import Function, Offer, ToolFormat, json_call
from .lark import Lark, text
from .pieces import Parser
from .scanner import JsonScanner

_NO_BRACE_FIRST = r"/([^{\s](?s:.*))?/"


class BareJson(ToolFormat):
    """key  what the arguments are called;  separator  between two calls;  opener  a token that may stand in front"""

    key = "arguments"
    separator = "\n"
    opener: str | None = None

    def parser(self, names: frozenset[str]) -> Parser:
        return _Parser(names, self.opener)

    def call(self, function: Function, lark: Lark) -> str:
        return json_call(function, lark, self.key)

    def calls(self, call: str, offer: Offer, lark: Lark) -> str:
        return f"{call} ({text(self.separator)} {call})*" if offer.parallel else call

    def free(self, calls: str, lark: Lark) -> str:
        return f"{calls} | {lark.rule('prose', _NO_BRACE_FIRST)}"


class _Parser(JsonScanner):
    def __init__(self, names: frozenset[str], opener: str | None) -> None:
        super().__init__(names)
        self._opener = opener
        self._begun = ""

    @property
    def num_held(self) -> int:
        return super().num_held + len(self._begun)

    def _start(self) -> bool:
        """White space, perhaps the opener, then a brace: or else these are words."""
        white = len(self._rest) - len(self._rest.lstrip())
        self._begun, self._rest = self._begun + self._rest[:white], self._rest[white:]
        if not self._rest and not self._is_ended:
            return False
        found = self._next_is(self._opener) if self._opener else False
        if found is None:
            return False
        if found and self._opener:
            self._begun, self._rest = self._begun + self._opener, self._rest[len(self._opener) :]
            return True
        begun, self._begun = self._begun, ""
        if self._opener:
            begun = begun.replace(self._opener, "")  # markup, whatever follows it
        if self._rest.startswith("{"):
            return self._open_call(begun, self._between)
        self._say(begun)
        return self._go(self._words)

    def _words(self) -> bool:
        self._state = self._words
        self._say(self._rest)
        self._rest = ""
        return False

    def _between(self) -> bool:
        """After a call: another one, or words."""
        self._rest = self._rest.lstrip("; \t\r\n,")
        if not self._rest:
            return False
        return self._go(self._start)
