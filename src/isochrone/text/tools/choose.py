"""A model's manners, read from its chat template: how it calls tools and where it thinks."""

from __future__ import annotations

from dataclasses import dataclass

from .forced import Forced
from .format import Offer, ToolFormat
from .gemma import FUNCTION_GEMMA, GEMMA_4
from .harmony import CALL, CHANNEL, Harmony
from .hermes import Hermes
from .lark import Lark, Marks
from .llama import Llama
from .mistral import ARGUMENTS, Mistral
from .mistral import OPEN as TOOL_CALLS
from .pieces import Parser
from .thinking import Opening, Thinking, ThinkingParser


@dataclass(frozen=True, slots=True)
class Dialect:
    """tools            the form of calls
    thinking         the marks of thoughts; None for a model without, or whose form of calls tells them apart itself
    lays_out_tools   the template writes the tools into the prompt
    """

    tools: ToolFormat
    thinking: Thinking | None
    lays_out_tools: bool

    @property
    def marks(self) -> tuple[str, ...]:
        """Control tokens that the parser must see."""
        return self.tools.marks + ((self.thinking.open, self.thinking.close) if self.thinking else ())

    def opening(self, prompt: str) -> Opening:
        """Whether an answer to this prompt begins within a thought."""
        return self.thinking.opening(prompt) if self.thinking else "no"

    def is_plain(self, opening: Opening) -> bool:
        """Whether an answer without calls is nothing but words."""
        return not self.tools.reads_all and (self.thinking is None or opening == "no")

    def parser(self, names: frozenset[str], opening: Opening) -> Parser | None:
        """Reads one answer; None where it is only words.  names  of the tools that may be called"""
        inner = self.tools.parser(names) if names or self.tools.reads_all else None
        if self.thinking is None or opening == "no":
            return inner
        return ThinkingParser(self.thinking, opening, inner)

    def grammar(self, offer: Offer, opening: Opening, marks: Marks) -> str | None:
        """A Lark grammar for the whole answer; None where any text will do.  Raises BadRequest."""
        if not offer.functions and offer.body is None:
            return None
        lark = Lark(marks)
        rule = self.tools.rule(offer, lark)
        return lark.source(self.thinking.rule(opening, rule, lark) if self.thinking else rule)


def dialect_of(template: str | None) -> Dialect:
    """How the model of this chat template writes.  Told by the marks that the template itself uses."""
    source = template or ""
    tools = _tools_of(source)
    return Dialect(tools, None if tools.reads_all else _thinking_of(source), not isinstance(tools, Forced))


def _tools_of(source: str) -> ToolFormat:
    if CHANNEL in source and CALL in source:
        return Harmony()
    if "tools" not in source:
        return Forced()
    if TOOL_CALLS in source:
        return Mistral(named=ARGUMENTS in source)
    if "<start_function_call>" in source:
        return FUNCTION_GEMMA
    if "<tool_call|>" in source:
        return GEMMA_4
    if "<tool_call>" in source and "<function=" not in source and "<arg_key>" not in source:
        return Hermes()
    if "<|python_tag|>" in source or ("<|start_header_id|>" in source and '"parameters"' in source):
        return Llama()
    return Forced()


def _thinking_of(source: str) -> Thinking | None:
    if "</think>" in source:
        return Thinking("<think>", "</think>")
    if "[/THINK]" in source:
        return Thinking("[THINK]", "[/THINK]")
    if "<channel|>" in source:
        return Thinking("<|channel>", "<channel|>", "thought")
    return None
