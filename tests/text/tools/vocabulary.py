"""A vocabulary of the 256 bytes and of marks, in which a test can spell anything."""

from __future__ import annotations

import numpy as np

from isochrone.text.grammar import Matcher, Vocabulary

END = 256


class Bytes:
    """Fulfils what a grammar needs of a tokenizer.  marks  are control tokens, as many vocabularies have them"""

    def __init__(self, marks: tuple[str, ...] = ()) -> None:
        self.marks = marks
        self.eos_ids: tuple[int, ...] = (END,)
        self.bos_id: int | None = None
        self.num_tokens = END + 1 + len(marks)

    def token_of(self, mark: str) -> int | None:
        return END + 1 + self.marks.index(mark) if mark in self.marks else None

    def encode(self, text: str, add_special: bool = True) -> list[int]:
        """The marks of a text as their tokens, the rest as bytes."""
        for mark in self.marks:
            if mark in text:
                before, after = text.split(mark, 1)
                id = self.token_of(mark)
                assert id is not None
                return [*self.encode(before), id, *self.encode(after)]
        return list(text.encode())

    def piece(self, id: int) -> bytes:
        return bytes([id]) if id < END else b""

    def is_special(self, id: int) -> bool:
        return id >= END

    def id_to_token(self, id: int) -> str | None:
        if id < END:
            return chr(id)
        return "<end>" if id == END else self.marks[id - END - 1]

    def warm(self) -> None:
        """There is nothing to load."""

    def text(self, ids: list[int]) -> str:
        """With the marks spelled out."""
        parts = [self.piece(id) if id < END else (self.id_to_token(id) or "").encode() for id in ids if id != END]
        return b"".join(parts).decode("utf-8", "replace")

    def vocabulary(self) -> Vocabulary:
        return Vocabulary(self, self.num_tokens)


def allowed(matcher: Matcher) -> list[int]:
    """The tokens that may come next."""
    bits = np.unpackbits(matcher.mask().view(np.uint8), bitorder="little")
    return [int(id) for id in np.flatnonzero(bits)]


def takes(matcher: Matcher, ids: list[int]) -> bool:
    """Whether these tokens are a whole answer."""
    place = matcher.copy()
    for id in ids:
        if place.is_over or id not in allowed(place):
            return False
        place.push(id)
    return place.is_over or END in allowed(place)
