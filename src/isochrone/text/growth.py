"""Whether a chat template may build lists that grow beyond what its fuel can count.

Fuel pays for instructions and for text made, not for lists: `set x = [x, x]` forty times costs forty instructions, and
writing x then takes 2⁴⁰ steps that nothing interrupts. A template that puts values into lists, adds what may be lists,
or multiplies anything is therefore rendered in a process of its own, with a limit on its time (`template_apart`).
The templates of ChatML, Llama, Mistral, Qwen and Gemma do none of this.
"""

from __future__ import annotations

import re

_COMMENT = re.compile(r"{#.*?#}", re.DOTALL)
_BLOCK = re.compile(r"{%[-+]?(.*?)[-+]?%}|{{[-+]?(.*?)[-+]?}}", re.DOTALL)
_TEXT = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", re.DOTALL)
_LENGTH = re.compile(r"[\w.]+\s*\|\s*(?:length|count)\b")
_KEYWORD_ARGUMENT = re.compile(r"\b\w+\s*=(?!=)")
_NAME = re.compile(r"\b(?!true\b|false\b|none\b|True\b|False\b|None\b)[A-Za-z_]\w*")
_OPENS_A_VALUE = re.compile(r"(?<![\w\])'])\s*[\[{]|\b(?:dict|namespace)\s*\(")
_ADDS = re.compile(r"((?:\.?\w+)|.)?\s*\+\s*(\w+|.)?", re.DOTALL)
_BINDS = ("set", "with", "macro", "call", "for")
_MULTIPLIES = re.compile(r"\*|\|\s*(?:chain|zip)\b")


def may_outgrow_fuel(source: str) -> bool:
    """Conservative: true for some harmless templates too."""
    blocks = [(m[1] is not None, _TEXT.sub("'", m[1] or m[2] or "")) for m in _BLOCK.finditer(_COMMENT.sub("", source))]
    words = [text.split() if is_statement else [] for is_statement, text in blocks]
    calls_itself = any(word[:1] == ["macro"] or "recursive" in word for word in words)
    return any(
        _MULTIPLIES.search(text) or ((calls_itself or (word and word[0] in _BINDS)) and _builds(text))
        for (_, text), word in zip(blocks, words, strict=True)
    )


def _builds(text: str) -> bool:
    text = _LENGTH.sub("0", text)
    if any(not left.isdigit() and left != "'" and not right.isdigit() and right not in ("'", "[")
           for left, right in _ADDS.findall(text)):  # fmt: skip
        return True
    return any(_NAME.search(_KEYWORD_ARGUMENT.sub("", _inside(text, m.end()))) for m in _OPENS_A_VALUE.finditer(text))


def _inside(text: str, start: int) -> str:
    """The text between a bracket that opened just before `start` and the one that closes it."""
    depth = 1
    for at in range(start, len(text)):
        depth += (text[at] in "([{") - (text[at] in ")]}")
        if depth == 0:
            return text[start:at]
    return text[start:]
