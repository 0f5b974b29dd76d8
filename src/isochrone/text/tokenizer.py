"""Text to token ids and back."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING, Any

from isochrone.errors import BadModel, BadRequest

from .decoding import Decoding
from .merging import Merger
from .table import ABSENT, ADDED, SPECIAL, Table

if TYPE_CHECKING:
    import tokenizers

# Merging from the table takes 1.5 ms per 1,000 characters, loading the library 50 to 60 ms (49k tokens, EPYC): after
# this much text the library pays. A single text is bounded lower, as one word of n letters takes n² steps.
MERGED_CHARS_MAX = 20_000
MERGED_TEXT_CHARS_MAX = 2_000


class Tokenizer:
    """A model's tokenizer.

    Encoding goes one of two ways, with the same result. The first short texts are merged from the mapped table; once
    as much text has been merged as pays for loading the library (or a long text comes), the library takes over.
    `warm()` loads it at a moment of the caller's choosing; a server does so before it is ready.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        self._decoding = Decoding(**table.facts["decoding"])
        self._merger = Merger(table) if len(table.sections["splitter"]) else None
        self._num_chars_merged = 0
        self._pieces: dict[int, bytes] = {}
        self.num_tokens = table.num_tokens
        self.bos_id: int | None = table.facts["bos_id"]
        self.eos_ids: tuple[int, ...] = tuple(table.facts["eos_ids"])
        self.chat_template: str | None = table.facts["chat_template"]
        self.named_tokens: dict[str, str] = table.facts["named_tokens"]

    @property
    def decoding(self) -> Decoding:
        return self._decoding

    def encode(self, text: str, add_special: bool = True) -> list[int]:
        """The ids of a text; control tokens spelled out in it become single ids.

        add_special   put before and after it what the model expects around a text (its bos token, say); a rendered
                      chat template has put these itself, so it is encoded without
        """
        if self._merger is None or not self._is_short(text):
            return self._encoded(self._library, text, add_special).ids  # type: ignore[no-any-return]
        self._num_chars_merged += len(text)
        letters = self._encoded(self._splitter, text, add_special)
        ids: list[int] = []
        for word, group in groupby(zip(letters.word_ids, letters.ids, strict=True), key=lambda pair: pair[0]):
            word_letters = tuple(id for _, id in group)
            ids += word_letters if word is None else self._merger.word(word_letters)
        return ids

    def decode(self, ids: Iterable[int], *, skip_special: bool = True) -> str:
        """The text of ids; bytes that are no character become U+FFFD."""
        from .stream import StreamDecoder

        decoder = StreamDecoder(self, skip_special=skip_special)
        return decoder.push(ids) + decoder.finish()

    def piece(self, id: int) -> bytes:
        """The bytes that a token adds in the middle of a text; none for an id without a token."""
        known = self._pieces.get(id)
        if known is None:
            token, kind = self._table.token(id), self._table.kind(id)
            added = kind in (ADDED, SPECIAL)
            known = self._pieces[id] = b"" if token is None else self._decoding.piece(token, added=added)
        return known

    def is_special(self, id: int) -> bool:
        """Whether an id is a control token, or no token at all: never part of the text."""
        return self._table.kind(id) in (SPECIAL, ABSENT)

    def id_to_token(self, id: int) -> str | None:
        """The token as the vocabulary spells it; None when there is none."""
        return self._table.token(id)

    def token_to_id(self, token: str) -> int | None:
        return self._table.id(token)

    def warm(self) -> None:
        """Load the library now, so that no later request waits for it."""
        self._num_chars_merged = MERGED_CHARS_MAX + 1
        _ = self._library

    @cached_property
    def _splitter(self) -> tokenizers.Tokenizer:
        return load_library(self._table.sections["splitter"])

    @cached_property
    def _library(self) -> tokenizers.Tokenizer:
        return load_library(self._table.sections["library"])

    def _is_short(self, text: str) -> bool:
        return len(text) <= MERGED_TEXT_CHARS_MAX and self._num_chars_merged + len(text) <= MERGED_CHARS_MAX

    def _encoded(self, tokenizer: tokenizers.Tokenizer, text: str, add_special: bool) -> Any:
        try:
            return tokenizer.encode(text, add_special_tokens=add_special)
        except (ValueError, TypeError) as error:
            raise BadRequest(
                f"The text cannot be encoded: {error}.",
                fix="Send valid Unicode text, without lone surrogates.",
            ) from error


def load_library(data: memoryview | bytes) -> tokenizers.Tokenizer:
    """The `tokenizers` object of a tokenizer.json. Raises BadModel when the library does not take it."""
    import tokenizers

    try:
        return tokenizers.Tokenizer.from_buffer(bytes(data))
    except Exception as error:
        raise BadModel(
            f"The tokenizer cannot be loaded: {error}.", fix="Download the model's tokenizer again."
        ) from error
    except BaseException as error:  # a panic of the library is no Exception
        if type(error).__name__ != "PanicException":
            raise
        raise BadModel(
            f"The tokenizer breaks the library that loads it: {error}.", fix="Download the model's tokenizer again."
        ) from error
