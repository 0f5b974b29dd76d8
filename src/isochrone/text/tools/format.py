"""What a tool format is: the marks it uses, how it reads an answer, and the grammar that holds a model to it.

The methods that write a grammar give Lark expressions, and add the rules that these refer to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from .lark import Lark, text
from .pieces import Parser


class Function(Protocol):
    """A tool as the formats need it.  parameters  JSON schema of its arguments; None takes none"""

    @property
    def name(self) -> str: ...

    @property
    def description(self) -> str: ...

    @property
    def parameters(self) -> dict[str, Any] | None: ...

    @property
    def strict(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Offer:
    """What an answer may be.

    functions   the tools that may be called
    must_call   the answer is calls, and nothing else
    parallel    one answer may hold several calls
    body        the Lark expression of an answer without calls, with the rules it needs; None is any text
    """

    functions: tuple[Function, ...]
    must_call: bool = False
    parallel: bool = True
    body: str | None = None


class ToolFormat:
    """One way of writing calls.

    marks     control tokens that belong to the markup: the parser must see them as text
    ends      tokens that end an answer with calls, besides those that the model file names
    id_chars  length of a call's id where the model insists on one
    reads_all the markup is around every answer, with tools or without
    """

    name: ClassVar[str]
    marks: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()
    id_chars: int | None = None
    reads_all: ClassVar[bool] = False

    def parser(self, names: frozenset[str]) -> Parser:
        """Reads one answer.  names  of the tools offered: a call of any other is words"""
        raise NotImplementedError

    def opening(self, lark: Lark) -> str:
        """What stands before the first call."""
        return ""

    def call(self, function: Function, lark: Lark) -> str:
        """One call of this tool."""
        raise NotImplementedError

    def calls(self, call: str, offer: Offer, lark: Lark) -> str:
        """All calls of an answer, after the opening.  call  the rule for one"""
        raise NotImplementedError

    def free(self, calls: str, lark: Lark) -> str:
        """Words, calls, or words and then calls."""
        raise NotImplementedError

    def rule(self, offer: Offer, lark: Lark) -> str:
        """The Lark expression of a whole answer under this offer, of tools or of a body at least."""
        if not offer.functions and offer.body is not None:
            return offer.body
        call = lark.rule("call", " | ".join(self.call(function, lark) for function in offer.functions))
        calls = lark.rule("calls", self.calls(call, offer, lark))
        if not offer.must_call and offer.body is None:
            return self.free(calls, lark)
        called = f"{self.opening(lark)} {calls}".strip()
        return called if offer.must_call else f"{called} | {offer.body}"

    def turns(self, turns: Sequence[Mapping[str, Any]], functions: Sequence[Function]) -> list[dict[str, Any]]:
        """The conversation as the template can lay it out."""
        return [dict(turn) for turn in turns]


def json_call(function: Function, lark: Lark, key: str = "arguments") -> str:
    """`{"name": ..., "arguments": {...}}` with the spaces that models were trained on."""
    head = text(f'{{"name": {text(function.name)}, "{key}": ')
    return f'{head} {lark.arguments(function)} "}}"'
