"""Hermes and Qwen: each call as JSON between `<tool_call>` and `</tool_call>`, after words or none."""

from __future__ import annotations

from .format import Function, Offer, ToolFormat, json_call
from .lark import ANY_TEXT, Lark
from .pieces import Parser
from .scanner import JsonScanner

OPEN, CLOSE = "<tool_call>", "</tool_call>"


class Hermes(ToolFormat):
    name = "hermes"
    marks = (OPEN, CLOSE)

    def parser(self, names: frozenset[str]) -> Parser:
        return _Parser(names)

    def opening(self, lark: Lark) -> str:
        return lark.mark(OPEN)

    def call(self, function: Function, lark: Lark) -> str:
        return f'"\\n" {json_call(function, lark)} "\\n" {lark.mark(CLOSE)}'

    def calls(self, call: str, offer: Offer, lark: Lark) -> str:
        return f'{call} ("\\n" {lark.mark(OPEN)} {call})*' if offer.parallel else call

    def free(self, calls: str, lark: Lark) -> str:
        return f"{lark.through(OPEN)} {calls} | {lark.rule('prose', ANY_TEXT)}"


class _Parser(JsonScanner):
    def _start(self) -> bool:
        return self._words()

    def _words(self) -> bool:
        self._state = self._words
        words, mark = self._until(OPEN)
        self._say(words)
        return mark is not None and self._open_call(mark, self._closing)

    def _closing(self) -> bool:
        """Between the object and its end: whatever stands there is no part of the answer."""
        _, mark = self._until(CLOSE)
        return mark is not None and self._go(self._between)

    def _between(self) -> bool:
        return self._skip_white() and self._go(self._words)
