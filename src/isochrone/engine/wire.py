"""Records on a stream of bytes: a length of four bytes (little endian), then msgpack.

Both ends bound the length, so a confused peer costs an error and no memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

import msgspec

from isochrone.errors import Unreachable

from .records import MESSAGE_BYTES_MAX, FromEngine, ToEngine

T = TypeVar("T")
_encoder = msgspec.msgpack.Encoder()


def pack(record: ToEngine | FromEngine) -> bytes:
    """A record as it travels."""
    body = _encoder.encode(record)
    assert len(body) <= MESSAGE_BYTES_MAX, f"a record of {len(body)} bytes cannot travel"
    return len(body).to_bytes(4, "little") + body


class Unpacker(Generic[T]):
    """Bytes in, as they come; whole records out."""

    def __init__(self, decoder: msgspec.msgpack.Decoder[T]) -> None:
        self._decoder, self._buffer = decoder, bytearray()

    def push(self, data: bytes | memoryview) -> Iterator[T]:
        """The records that these bytes complete.  Raises Unreachable when they are none."""
        buffer = self._buffer
        buffer += data
        begin = 0
        while len(buffer) - begin >= 4:
            end = begin + 4 + int.from_bytes(buffer[begin : begin + 4], "little")
            if end - begin - 4 > MESSAGE_BYTES_MAX:
                raise _not_a_record(f"one of {end - begin - 4} bytes was announced")
            if len(buffer) < end:
                break
            try:
                record = self._decoder.decode(bytes(buffer[begin + 4 : end]))
            except msgspec.MsgspecError as error:
                raise _not_a_record(str(error)) from error
            begin = end
            yield record
        del buffer[:begin]


def to_engine() -> Unpacker[ToEngine]:
    """Reads what the gateway says."""
    return Unpacker(msgspec.msgpack.Decoder[ToEngine](ToEngine))


def from_engine() -> Unpacker[FromEngine]:
    """Reads what an engine says."""
    return Unpacker(msgspec.msgpack.Decoder[FromEngine](FromEngine))


def _not_a_record(why: str) -> Unreachable:
    return Unreachable(
        f"Gateway and engine do not understand each other: {why}.",
        fix="Start the server again; both must be of one version.",
    )
