"""Server-sent events out of bytes, however the bytes are cut: the same events, and no character torn."""

from __future__ import annotations

from isochrone.errors import Unreachable

EVENT_BYTES_MAX = 16 * 2**20


class Events:
    """Bytes in, as they come; (event's name, its data) out.  Comments, ids and retry times are passed over.

    Line ends may be LF, CRLF or CR, as the standard has it.  A field called `error` counts as an event of that name:
    so llama.cpp said its errors for years.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._name = ""
        self._data: list[bytes] = []
        self._size = 0
        self._was_return = False

    def push(self, data: bytes) -> list[tuple[str, bytes]]:
        """Raises Unreachable when an event grows beyond all reason."""
        if self._was_return and data[:1] == b"\n":
            data = data[1:]  # the second half of a CRLF that was cut in two
            self._was_return = False
        if not data:
            return []
        self._was_return = data.endswith(b"\r")
        text = self._rest + data
        if b"\r" in text:
            text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, self._rest = text.split(b"\n")
        self._size += len(data)
        if self._size > EVENT_BYTES_MAX and not lines:
            raise Unreachable(f"An event has more than {EVENT_BYTES_MAX} bytes.", fix="Look at that server's log.")
        out: list[tuple[str, bytes]] = []
        for line in lines:
            self._take(line, out)
        return out

    def close(self) -> list[tuple[str, bytes]]:
        """What an end without an empty line leaves: servers that stop like this have still said it."""
        rest, self._rest = self._rest, b""
        out: list[tuple[str, bytes]] = []
        self._take(rest, out)
        self._take(b"", out)
        return out

    def _take(self, line: bytes, out: list[tuple[str, bytes]]) -> None:
        if not line:
            if self._data:
                out.append((self._name, b"\n".join(self._data)))
            self._name, self._data, self._size = "", [], 0
            return
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
        elif field == b"event":
            self._name = value.decode("utf-8", "replace")
        elif field == b"error":
            self._name = "error"
            self._data.append(value)
