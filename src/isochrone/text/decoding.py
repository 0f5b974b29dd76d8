"""What each token adds to a text: bytes, by one of three spellings, and how the first token differs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from isochrone.errors import BadModel

Spelling = Literal["bytes", "marks", "words"]
Start = Literal["keep", "drop_space", "drop_marks"]


def _byte_letters() -> dict[int, int]:
    """GPT-2's letters for bytes: printable ones stand for themselves, the rest are counted up from U+0100."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {byte: byte for byte in plain} | {0x100 + i: byte for i, byte in enumerate(others)}


BYTE_OF_LETTER = _byte_letters()
_CLEAN = ((" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m"),
          (" do not", " don't"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Decoding:
    """spelling        bytes: letters for bytes (GPT-2); marks: a mark for a space (SentencePiece); words: WordPiece
    start           what the first token of a text loses: nothing, one leading space, or all its marks
    byte_fallback   whether tokens like <0xE4> stand for one byte
    mark            how a space is written
    prefix          what marks a token that continues a word
    clean           whether spaces before punctuation are dropped
    """

    spelling: Spelling
    start: Start = "keep"
    byte_fallback: bool = False
    mark: str = "▁"
    prefix: str = ""
    clean: bool = False

    def piece(self, token: str, *, added: bool) -> bytes:
        """The bytes that a token adds to a text. Added tokens stand for themselves, letter by letter."""
        if self.spelling == "bytes":
            known = not added and all(ord(letter) in BYTE_OF_LETTER for letter in token)
            return bytes(BYTE_OF_LETTER[ord(letter)] for letter in token) if known else _utf8(token)
        if self.spelling == "marks":
            if self.byte_fallback and len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
                return _byte(token)
            return _utf8(token.replace(self.mark, " "))
        continues = bool(self.prefix) and token.startswith(self.prefix)
        word = token[len(self.prefix) :] if continues else f" {token}"
        for before, after in _CLEAN if self.clean else ():
            word = word.replace(before, after)
        return _utf8(word)

    def first(self, piece: bytes) -> bytes:
        """What is left of a piece that begins a text."""
        if self.start == "drop_space":
            return piece.removeprefix(b" ")
        return piece.replace(b" ", b"") if self.start == "drop_marks" else piece


def decoding_from_json(decoder: Any) -> Decoding:
    """The rule written in a tokenizer.json. Raises BadModel for a decoder that is not one of those in use."""
    steps = _flat(decoder)
    kinds = {step.get("type") for step in steps}
    if "ByteLevel" in kinds:
        return Decoding("bytes")
    if kinds == {"WordPiece"}:
        step = steps[0]
        return Decoding("words", "drop_space", prefix=str(step.get("prefix", "##")), clean=step.get("cleanup") is True)
    if not kinds:
        return Decoding("words", "drop_space")
    if kinds <= {"Replace", "ByteFallback", "Fuse", "Strip", "Metaspace"}:
        return _marks(steps)
    raise BadModel(
        f"The tokenizer turns tokens into text by {', '.join(sorted(map(str, kinds)))}, which is not supported.",
        fix="Byte-level, SentencePiece and WordPiece tokenizers are; use a model with one of these.",
    )


def _marks(steps: list[Mapping[str, Any]]) -> Decoding:
    mark, start, byte_fallback = "▁", "keep", False
    for step in steps:
        match step:
            case {"type": "Replace", "pattern": {"String": str(found)}, "content": " "}:
                mark = found
            case {"type": "Metaspace"}:
                mark = str(step.get("replacement", mark))
                never = step.get("prepend_scheme") == "never" or step.get("add_prefix_space") is False
                start = "keep" if never else "drop_marks"
            case {"type": "Strip", "content": " ", "start": 1, "stop": 0}:
                start = "drop_space"
            case {"type": "ByteFallback"}:
                byte_fallback = True
            case {"type": "Fuse"}:
                continue
            case _:
                raise BadModel(
                    f"The tokenizer's decoder has a step that is not supported: {dict(step)!r}.",
                    fix="Use a model whose decoder is that of SentencePiece: Replace, ByteFallback, Fuse, Strip.",
                )
    return Decoding("marks", start, byte_fallback, mark)  # type: ignore[arg-type]


def _flat(decoder: Any) -> list[Mapping[str, Any]]:
    if decoder is None:
        return []
    if not isinstance(decoder, dict):
        raise BadModel("The tokenizer's decoder is not an object.", fix="Download tokenizer.json again.")
    steps = decoder.get("decoders") if decoder.get("type") == "Sequence" else [decoder]
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise BadModel("The tokenizer's decoder is not a list of steps.", fix="Download tokenizer.json again.")
    return steps


def _byte(token: str) -> bytes:
    try:
        return bytes([int(token[3:5], 16)])
    except ValueError:
        return _utf8(token)


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "replace")  # a lone surrogate cannot come from a text: "?" stands for it
