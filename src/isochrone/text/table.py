"""A tokenizer as one flat block of bytes that is mapped, not parsed: the form in which it is cached on disk.

Loading a vocabulary of 49,000 tokens into the library takes 50 to 60 ms, most of it hashing. A short prompt needs a few
dozen of its merges, so they lie here sorted, to be found by bisection in the mapped file, and nothing is loaded.

    magic, header length, header checksum
    header    JSON: the facts, and where each section lies
    sections  token_ends   u32 [tokens]   end of each token's text in token_text
              token_text   UTF-8
              token_kind   u8 [tokens]    0 ordinary, 1 special, 2 added, 255 no such token
              lookup       u64 [tokens]   checksum of the text << 32 | id, sorted
              merge_pairs  u64 [merges]   left id << 32 | right id, sorted
              merge_ranks  u64 [merges]   rank << 32 | id of the merged token
              splitter     JSON for the library: the tokenizer without its merges
              library      JSON for the library: the whole tokenizer
"""

from __future__ import annotations

import json
import struct
import sys
import zlib
from bisect import bisect_left
from typing import Any

MAGIC = b"isotok\x00\x01"  # the last byte is the version of the layout
ORDINARY, SPECIAL, ADDED, ABSENT = 0, 1, 2, 255
PREFIX = struct.Struct("<8sII")
_SECTIONS = {"token_ends": 4, "token_text": 1, "token_kind": 1, "lookup": 8, "merge_pairs": 8, "merge_ranks": 8,
             "splitter": 1, "library": 1}  # fmt: skip


class Table:
    """The mapped block. Raises ValueError when the bytes are not a whole table of this version."""

    __slots__ = ("_ends", "_kinds", "_lookup", "_text", "facts", "merge_pairs", "merge_ranks", "num_tokens", "sections")

    def __init__(self, data: memoryview) -> None:
        self.facts, places = _read_header(data)
        self.sections = {name: data[start : start + size] for name, (start, size) in places.items()}
        self._ends = self.sections["token_ends"].cast("I")
        self._text = self.sections["token_text"]
        self._kinds = self.sections["token_kind"]
        self._lookup = self.sections["lookup"].cast("Q")
        self.merge_pairs = self.sections["merge_pairs"].cast("Q")
        self.merge_ranks = self.sections["merge_ranks"].cast("Q")
        self.num_tokens = len(self._kinds)
        if len(self._ends) != self.num_tokens or len(self.merge_pairs) != len(self.merge_ranks):
            raise ValueError("sections of a table differ in length")

    def kind(self, id: int) -> int:
        return self._kinds[id] if 0 <= id < self.num_tokens else ABSENT

    def token(self, id: int) -> str | None:
        """The token as the vocabulary spells it; None when no token has this id."""
        if self.kind(id) == ABSENT:
            return None
        return bytes(self._text[self._ends[id - 1] if id else 0 : self._ends[id]]).decode("utf-8")

    def id(self, token: str) -> int | None:
        encoded = token.encode("utf-8", "replace")
        checksum = zlib.crc32(encoded)
        at = bisect_left(self._lookup, checksum << 32)
        while at < len(self._lookup) and self._lookup[at] >> 32 == checksum:
            id = self._lookup[at] & 0xFFFFFFFF
            if self.token(id) == token:
                return int(id)
            at += 1
        return None


def _read_header(data: memoryview) -> tuple[dict[str, Any], dict[str, tuple[int, int]]]:
    if len(data) < PREFIX.size:
        raise ValueError("too short for a table")
    magic, length, checksum = PREFIX.unpack_from(data)
    header = bytes(data[PREFIX.size : PREFIX.size + length])
    if magic != MAGIC or len(header) != length or zlib.crc32(header) != checksum:
        raise ValueError("not a table of this version")
    content = json.loads(header)
    base = PREFIX.size + length
    if content["size"] != len(data) - base or content["order"] != sys.byteorder:
        raise ValueError("cut short, or made on another kind of machine")
    places = {}
    for name, item_bytes in _SECTIONS.items():
        start, size = content["sections"][name]
        if not 0 <= start <= start + size <= content["size"] or size % item_bytes:
            raise ValueError(f"section {name} lies outside the table")
        places[name] = (base + start, size)
    return content["facts"], places
