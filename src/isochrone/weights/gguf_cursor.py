"""A place in a GGUF header: reads the next number, text or array, and never past the end."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from ..errors import BadModel
from .blocks import U8

TEXT_BYTES_MAX = 1 << 24
"""Most text that is decoded in keys, names and single values together: a chat template has some kilobytes."""
NUM_STRINGS_MAX = 1 << 22
"""Most strings in all arrays of a file together: the largest vocabularies with their merges have 0.7 million."""

_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")
_BOOL, _STRING, _ARRAY = 7, 8, 9
_ITEMS = {0: "u1", 1: "i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "?", 10: "<u8", 11: "<i8", 12: "<f8"}
_SCALARS = {kind: struct.Struct("<" + code) for kind, code in zip(_ITEMS, "BbHhIifBQqd", strict=True)}
_DAMAGED = "Download the file again: it is damaged, or not what its name says."


class StringArray(Sequence[str]):
    """An array of strings that stays in the file until its first use, then is decoded once."""

    __slots__ = ("_cursor", "_num", "_strings")

    def __init__(self, cursor: Cursor, num: int) -> None:
        """cursor: of its own, standing at the first string; the extents of all were checked."""
        self._cursor, self._num = cursor, num
        self._strings: list[str] | None = None

    def __len__(self) -> int:
        return self._num

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        return self.strings()[index]

    def __iter__(self) -> Iterator[str]:
        return iter(self.strings())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and not isinstance(other, str) and self.strings() == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"StringArray({self._num} strings)"

    def strings(self) -> list[str]:
        """All strings, decoded.  Raises BadModel where one is not UTF-8."""
        if self._strings is None:
            self._strings = self._cursor.strings(self._num)
        return self._strings


class Cursor:
    """The next unread byte of a header.  Every read checks its extent first; all failures are BadModel."""

    __slots__ = ("_data", "_num_strings", "_num_text_bytes", "_path", "_view", "position", "size")

    def __init__(self, path: Path, data: U8, position: int = 0) -> None:
        self._path, self._data, self._view = path, data, data.data
        self.position, self.size = position, len(data)
        self._num_strings, self._num_text_bytes = 0, 0

    def bad(self, claim: str, fix: str = _DAMAGED) -> BadModel:
        """The error that says what this file does wrong."""
        return BadModel(f"{self._path} {claim}.", fix=fix)

    def u32(self) -> int:
        """The next 32-bit number."""
        return int(self._scalar(_U32))

    def u64(self) -> int:
        """The next 64-bit number."""
        return int(self._scalar(_U64))

    def text(self, num_bytes_max: int, what: str) -> str:
        """The next text.  what: the words for it in an error."""
        num_bytes = self.u64()
        if num_bytes > num_bytes_max:
            raise self.bad(f"has {what} of {num_bytes} bytes; at most {num_bytes_max} are read")
        self._num_text_bytes += num_bytes
        if self._num_text_bytes > TEXT_BYTES_MAX:
            raise self.bad(f"has more than {TEXT_BYTES_MAX} bytes of text outside arrays")
        start = self._take(num_bytes)
        return self._decode(start, start + num_bytes)

    def value(self, kind: int, key: str) -> Any:
        """The next metadata value: a number, truth, text, NumPy array or StringArray."""
        if kind == _STRING:
            return self.text(TEXT_BYTES_MAX, f"a text under {key[:80]!r}")
        if kind == _ARRAY:
            return self._array(key)
        if kind not in _SCALARS:
            raise self.bad(f"has a value of unknown type {kind} under {key[:80]!r}")
        number = self._scalar(_SCALARS[kind])
        if kind != _BOOL:
            return number
        if number > 1:
            raise self.bad(f"has {number} under {key[:80]!r}, where 0 or 1 is expected")
        return bool(number)

    def strings(self, num: int) -> list[str]:
        """The next strings of an array, decoded; their extents were checked when the array was found."""
        start, stop = self.position, self._after_strings(num)
        block, unpack, position, strings = bytes(self._view[start:stop]), _U64.unpack_from, 0, []
        try:
            for _ in range(num):
                first = position + 8
                position = first + unpack(block, position)[0]
                strings.append(block[first:position].decode())
        except UnicodeDecodeError as error:
            raise self.bad(f"has a string before byte {start + position} that is not UTF-8") from error
        return strings

    def _array(self, key: str) -> StringArray | NDArray[np.generic]:
        kind, num = self.u32(), self.u64()
        if kind == _STRING:
            return self._string_array(num, key)
        if kind not in _ITEMS:
            raise self.bad(f"has an array of {'arrays' if kind == _ARRAY else f'type {kind}'} under {key[:80]!r}")
        item = np.dtype(_ITEMS[kind])
        start = self._take(num * item.itemsize)
        array = self._data[start : self.position].view(item)
        if kind == _BOOL and self._data[start : self.position].max(initial=0) > 1:
            raise self.bad(f"has truths other than 0 and 1 under {key[:80]!r}")
        return array

    def _string_array(self, num: int, key: str) -> StringArray:
        self._num_strings += num
        if self._num_strings > NUM_STRINGS_MAX:
            raise self.bad(f"claims {self._num_strings} strings up to {key[:80]!r}; at most {NUM_STRINGS_MAX} are read")
        array = StringArray(Cursor(self._path, self._data, self.position), num)
        self.position = self._after_strings(num)
        return array

    def _after_strings(self, num: int) -> int:
        """Where the strings end.  They can only be walked: one call a string, 5 ms for a vocabulary of 49,152."""
        unpack: Callable[[memoryview, int], tuple[int]] = _U64.unpack_from
        view, position, last = self._view, self.position, self.size - 8
        for _ in range(num):
            if position > last:
                raise self.bad(f"ends inside a string at byte {position}")
            position += 8 + unpack(view, position)[0]
        if position > self.size:
            raise self.bad(f"has {self.size} bytes, but a string ends at {position}")
        return position

    def _scalar(self, kind: struct.Struct) -> Any:
        start = self._take(kind.size)
        return kind.unpack_from(self._view, start)[0]

    def _take(self, num_bytes: int) -> int:
        """Step over bytes; returns where they start."""
        start = self.position
        if num_bytes > self.size - start:
            raise self.bad(f"ends at byte {self.size}, where {num_bytes} more bytes from {start} are expected")
        self.position = start + num_bytes
        return start

    def _decode(self, start: int, stop: int) -> str:
        try:
            return str(self._view[start:stop], "utf-8")
        except UnicodeDecodeError as error:
            raise self.bad(f"has text at byte {start} that is not UTF-8 ({error.reason})") from error
