"""Token ids to text as they come: never half a character, never a space too many or too few."""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .tokenizer import Tokenizer

_UTF8 = codecs.getincrementaldecoder("utf-8")


class StreamDecoder:
    """Each token is looked at once. However the ids are split over calls, the texts together are the same.

    skip_special   leave control tokens out, but for those in shown_ids, which are spelled out
    continuing     the ids go on after a prompt, so their first word keeps the space before it
    """

    __slots__ = ("_at_start", "_shown_ids", "_skip_special", "_tokenizer", "_utf8")

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        skip_special: bool = True,
        continuing: bool = False,
        shown_ids: frozenset[int] = frozenset(),
    ) -> None:
        self._tokenizer = tokenizer
        self._skip_special, self._shown_ids = skip_special, shown_ids
        self._at_start = not continuing
        self._utf8 = _UTF8("replace")

    def push(self, ids: Iterable[int]) -> str:
        """The text that these ids complete; the bytes of an unfinished character wait for the next call."""
        return self._utf8.decode(b"".join(map(self._bytes, ids)))

    def finish(self) -> str:
        """What was waiting: U+FFFD when the ids ended inside a character, else nothing."""
        return self._utf8.decode(b"", final=True)

    def _bytes(self, id: int) -> bytes:
        if id in self._shown_ids:
            return (self._tokenizer.id_to_token(id) or "").encode()
        if self._skip_special and self._tokenizer.is_special(id):
            return b""
        piece = self._tokenizer.piece(id)
        if self._at_start and piece:
            self._at_start = False
            return self._tokenizer.decoding.first(piece)
        return piece
