"""Gemma: `call:name{key:value}` between two marks, texts between marks of their own, and everything else as in JSON."""

from __future__ import annotations

import json

from .format import Function, Offer, ToolFormat
from .gemma_values import object_rule
from .lark import ANY_TEXT, Lark, text
from .pieces import Parser
from .scanner import Scanner


class Gemma(ToolFormat):
    """open, close  around a call;  quote  around a text;  response  what the model expects after its calls"""

    name = "gemma"

    def __init__(self, open: str, close: str, quote: str, response: str) -> None:
        self._open, self._close, self._quote = open, close, quote
        self.marks = (open, close, quote)
        self.ends = (response,)

    def parser(self, names: frozenset[str]) -> Parser:
        return _Parser(names, self._open, self._close, self._quote)

    def opening(self, lark: Lark) -> str:
        return lark.mark(self._open)

    def call(self, function: Function, lark: Lark) -> str:
        return f"{text('call:' + function.name)} {object_rule(function, self._quote, lark)} {lark.mark(self._close)}"

    def calls(self, call: str, offer: Offer, lark: Lark) -> str:
        return f"{call} ({lark.mark(self._open)} {call})*" if offer.parallel else call

    def free(self, calls: str, lark: Lark) -> str:
        return f"{lark.through(self._open)} {calls} | {lark.rule('prose', ANY_TEXT)}"


FUNCTION_GEMMA = Gemma("<start_function_call>", "<end_function_call>", "<escape>", "<start_function_response>")
GEMMA_4 = Gemma("<|tool_call>", "<tool_call|>", '<|"|>', "<|tool_response>")


class _Parser(Scanner):
    def __init__(self, names: frozenset[str], open: str, close: str, quote: str) -> None:
        super().__init__(names)
        self._open, self._close, self._quote = open, close, quote
        self._brackets: list[str] = []
        self._expects_key = False

    def _start(self) -> bool:
        words, mark = self._until(self._open)
        self._say(words)
        return mark is not None and self._go(self._naming)

    def _naming(self) -> bool:
        at = self._rest.find("{")
        longest = max(map(len, self._names), default=0) + 64
        if at < 0 and not self._is_ended and len(self._rest) <= longest and self._open not in self._rest:
            return False
        name = self._rest[: max(at, 0)].strip().removeprefix("call:").strip()
        if name not in self._names:
            self._say(self._open)
            return self._go(self._start)
        self._rest = self._rest[at:]
        self._begin_call(name)
        self._brackets = []
        return self._go(self._value)

    def _value(self) -> bool:
        """The next letter that means something, translated."""
        if not self._skip_white():
            return False
        is_quote = self._next_is(self._quote)
        if is_quote is None:
            return False
        if is_quote:
            self._rest = self._rest[len(self._quote) :]
            self._argue('"')
            return self._go(self._text)
        letter = self._rest[0]
        if letter in "{}[],":
            self._rest = self._rest[1:]
            return self._punctuate(letter)
        return self._go(self._key if self._expects_key else self._bare)

    def _punctuate(self, letter: str) -> bool:
        if letter in "{[":
            self._brackets.append(letter)
        elif letter in "}]" and self._brackets:
            self._brackets.pop()
        self._argue(", " if letter == "," else letter)
        self._expects_key = bool(self._brackets) and self._brackets[-1] == "{" and letter in "{,"
        return True if self._brackets else self._go(self._closing)

    def _key(self) -> bool:
        at = self._rest.find(":")
        if at < 0:
            return False
        self._argue(json.dumps(self._rest[:at].strip().strip('"'), ensure_ascii=False) + ": ")
        self._rest, self._expects_key = self._rest[at + 1 :], False
        return self._go(self._value)

    def _bare(self) -> bool:
        """A number, or a word such as true."""
        end = next((at for at, letter in enumerate(self._rest) if letter in ",}]{[ \t\r\n<"), -1)
        if end < 0 and not self._is_ended:
            return False
        word = self._rest if end < 0 else self._rest[: max(end, 1)]
        self._rest = self._rest[len(word) :]
        self._argue(_as_json(word))
        return self._go(self._value)

    def _text(self) -> bool:
        words, mark = self._until(self._quote)
        self._argue(json.dumps(words, ensure_ascii=False)[1:-1])
        if mark is not None:
            self._argue('"')
        return mark is not None and self._go(self._value)

    def _closing(self) -> bool:
        _, mark = self._until(self._close)
        return mark is not None and self._go(self._between)

    def _between(self) -> bool:
        return self._skip_white() and self._go(self._start)


def _as_json(word: str) -> str:
    try:
        json.loads(word)
    except ValueError:
        return json.dumps(word, ensure_ascii=False)  # a text without its marks
    return word
