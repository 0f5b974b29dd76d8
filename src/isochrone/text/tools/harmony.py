"""GPT-OSS: an answer is messages in channels; a call is a message to `functions.NAME`, a thought one in `analysis`."""

from __future__ import annotations

import re

from .format import Function, Offer, ToolFormat
from .lark import ANY_TEXT, Lark, text
from .pieces import Parser
from .scanner import Scanner

START, CHANNEL, CONSTRAIN, MESSAGE = "<|start|>", "<|channel|>", "<|constrain|>", "<|message|>"
END, RETURN, CALL = "<|end|>", "<|return|>", "<|call|>"
_RECIPIENT = re.compile(r"to=functions\.([^\s<]+)")


class Harmony(ToolFormat):
    name = "harmony"
    marks = (START, CHANNEL, CONSTRAIN, MESSAGE, END, RETURN, CALL)
    ends = (CALL, RETURN)
    reads_all = True

    def parser(self, names: frozenset[str]) -> Parser:
        return _Parser(names)

    def call(self, function: Function, lark: Lark) -> str:
        to = text(f"commentary to=functions.{function.name} ")
        header = f'{lark.mark(CHANNEL)} {to} {lark.mark(CONSTRAIN)} "json" {lark.mark(MESSAGE)}'
        return f"{header} {lark.arguments(function)}"

    def calls(self, call: str, offer: Offer, lark: Lark) -> str:
        return call  # its end is the end of the turn: this format knows no second call

    def rule(self, offer: Offer, lark: Lark) -> str:
        """A thought or none, then a call or the final message."""
        choices = []
        if offer.functions:
            choices.append(lark.rule("call", " | ".join(self.call(function, lark) for function in offer.functions)))
        if not offer.must_call:
            body = lark.rule("body", offer.body or ANY_TEXT)
            choices.append(f'{lark.mark(CHANNEL)} "final" {lark.mark(MESSAGE)} {body}')
        analysis = f'{lark.mark(CHANNEL)} "analysis" {lark.mark(MESSAGE)} {lark.through(END)}'
        thought = lark.rule("thought", f'{analysis} {lark.mark(START)} "assistant"')
        return f"{thought}? ({' | '.join(choices)})"


class _Parser(Scanner):
    _has_header = False
    _has_argued = False

    def _start(self) -> bool:
        """The prompt ends behind `<|start|>assistant`: a header follows, or a model that knows none."""
        if not self._rest:
            return False
        if self._rest[0] in "< ":
            return self._go(self._header)
        return self._go(self._words)

    def _header(self) -> bool:
        at = self._rest.find(MESSAGE)
        if at < 0:  # only the first may be no header at all; one that is cut later says nothing
            is_none = self._is_ended and bool(self._rest) and not self._has_header
            return is_none and self._go(self._words)
        self._has_header = True
        header, self._rest = self._rest[:at], self._rest[at + len(MESSAGE) :]
        recipient = _RECIPIENT.search(header)
        if recipient and recipient[1] in self._names:
            self._begin_call(recipient[1])
            self._has_argued = False
            return self._go(self._arguments)
        self.is_thinking = f"{CHANNEL}analysis" in header
        return self._go(self._thoughts if self.is_thinking else self._words)

    def _words(self) -> bool:
        words, mark = self._until(END, RETURN, CALL, START)
        self._say(words)
        return mark is not None and self._go(self._header)

    def _thoughts(self) -> bool:
        words, mark = self._until(END, RETURN, CALL, START)
        self._think(words)
        self.is_thinking = mark is None
        return mark is not None and self._go(self._header)

    def _arguments(self) -> bool:
        words, mark = self._until(END, RETURN, CALL, START)
        self._argue(words)
        self._has_argued = self._has_argued or bool(words)
        if not self._has_argued and (mark is not None or self._is_ended):
            self._argue("{}")
            self._has_argued = True
        return mark is not None and self._go(self._header)
