"""Amazon's event stream, from bytes to messages.

A message is: total length, length of its headers, CRC-32 of these eight bytes (three big-endian words), the headers,
the payload, CRC-32 of all before it.  A header is: length of its name (one byte), name, type of its value (one byte),
value.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from zlib import crc32

from isochrone.errors import Unreachable

PRELUDE_BYTES, CRC_BYTES = 12, 4
HEADERS_BYTES_MAX = 128 << 10
PAYLOAD_BYTES_MAX = 24 << 20
"""The protocol's own bounds."""

_WORD, _PRELUDE = struct.Struct(">I"), struct.Struct(">III")
_NUM_BYTES = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Length of a header's value by its type: true, false, byte, short, integer, long, timestamp, UUID."""
_BLOB, _STRING = 6, 7


@dataclass(frozen=True, slots=True)
class Frame:
    """One message.  headers  those whose values are strings, which is all that this protocol says anything with"""

    headers: dict[str, str]
    payload: bytes


class Frames:
    """Cuts a stream into its messages, however the network cut it."""

    def __init__(self) -> None:
        self._held = bytearray()

    @property
    def num_held(self) -> int:
        """Bytes of a message that is not complete yet."""
        return len(self._held)

    def push(self, data: bytes) -> list[Frame]:
        """The messages that these bytes complete.  Raises Unreachable for what is no event stream."""
        self._held += data
        frames = []
        while (frame := self._next()) is not None:
            frames.append(frame)
        return frames

    def _next(self) -> Frame | None:
        held = self._held
        if len(held) < PRELUDE_BYTES:
            return None
        total, num_headers, crc = _PRELUDE.unpack_from(held)
        _expect(crc == crc32(held[:8]), "the checksum of a message's first bytes is wrong")
        num_payload = total - num_headers - PRELUDE_BYTES - CRC_BYTES
        _expect(
            num_headers <= HEADERS_BYTES_MAX and 0 <= num_payload <= PAYLOAD_BYTES_MAX,
            f"a message claims {total} bytes with {num_headers} of headers",
        )
        if len(held) < total:
            return None
        message = bytes(held[:total])
        del held[:total]
        _expect(_WORD.unpack_from(message, total - CRC_BYTES)[0] == crc32(message[:-CRC_BYTES]), "a checksum is wrong")
        headers_end = PRELUDE_BYTES + num_headers
        return Frame(_headers(message[PRELUDE_BYTES:headers_end]), message[headers_end:-CRC_BYTES])


def _headers(data: bytes) -> dict[str, str]:
    headers: dict[str, str] = {}
    try:
        for name, kind, value in _fields(data):
            _expect(name not in headers, f"a message has two headers {name}")
            if kind == _STRING:
                headers[name] = value.decode()
    except (IndexError, struct.error, UnicodeDecodeError, KeyError):
        _expect(False, "the headers of a message cannot be read")
    return headers


def _fields(data: bytes) -> Iterator[tuple[str, int, bytes]]:
    """(name, type, value) of each header."""
    at = 0
    while at < len(data):
        name_end = at + 1 + data[at]
        name, kind = data[at + 1 : name_end].decode(), data[name_end]
        at = name_end + 1
        if kind in (_BLOB, _STRING):
            num_bytes = struct.unpack_from(">H", data, at)[0]
            at += 2
        else:
            num_bytes = _NUM_BYTES[kind]
        if at + num_bytes > len(data):
            raise IndexError
        yield name, kind, data[at : at + num_bytes]
        at += num_bytes


def _expect(holds: bool, what: str) -> None:
    if not holds:
        raise Unreachable(
            f"The stream from Amazon Bedrock was damaged on its way: {what}.",
            fix="Ask again; if it happens often, look for a proxy that changes what it passes on.",
        )
