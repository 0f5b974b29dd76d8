"""Server-sent events of Google's streams: bytes in, JSON objects out."""

from __future__ import annotations

from typing import Any

import msgspec

from isochrone.errors import Unreachable

EVENT_BYTES_MAX = 32 << 20


class Events:
    """What a stream has said so far.  Errors may come as an event, or as plain JSON in the place of events."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._plain: list[bytes] = []
        self._size = 0

    def push(self, data: bytes) -> list[dict[str, Any]]:
        """Events that these bytes complete.  Raises Unreachable for what is no JSON."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._size += len(data)
        if self._size > EVENT_BYTES_MAX:
            raise Unreachable("Google's stream sent an event without an end.", fix="Ask again, or ask another place.")
        found = []
        for line in lines:
            line = line.removesuffix(b"\r")
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
            elif not line and self._data:
                found.append(_parsed(b"\n".join(self._data)))
                self._data, self._size = [], len(self._rest)
            elif line and not line.startswith((b":", b"event:", b"id:", b"retry:")):
                self._plain.append(line)
        return found

    def finish(self) -> list[dict[str, Any]]:
        """What was left when the stream ended.  An event that was cut short is none."""
        found = self.push(b"\n\n") if self._is_whole() else []
        plain, self._plain = b"\n".join(self._plain), []
        return [*found, _parsed(plain)] if plain.strip() else found

    def _is_whole(self) -> bool:
        return self._rest.endswith((b"}", b"]")) or (bool(self._data) and not self._rest)


def _parsed(raw: bytes) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(raw)
    except msgspec.DecodeError:
        value = None
    if isinstance(value, list) and value:
        value = value[0]
    if not isinstance(value, dict):
        raise Unreachable("Google's stream sent something that is no JSON object.", fix="Ask again.")
    return value
