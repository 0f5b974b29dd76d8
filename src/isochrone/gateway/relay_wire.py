"""HTTP/1.1 to one address, on the loop's own transports: connections kept warm, answers as bytes as they come.

Two Python frames stand between a read of the socket and whoever waits for it.  What one read brings comes as one piece,
and so does what came while nobody asked.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httptools

from isochrone.errors import BadConfig, Unreachable

HIGH_BYTES = 256 * 1024
"""A caller that reads slower than a place answers makes the place wait from here on."""
IDLE_S = 20.0
"""Servers close what rests; many after 60 s, uvicorn after 5: a connection closed while it is taken is tried again."""
HEAD_BYTES_MAX = 64 * 1024
Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Address:
    """Where to connect.  base  what paths are put after"""

    host: str
    port: int
    is_tls: bool
    base: str

    @property
    def authority(self) -> str:
        name = f"[{self.host}]" if ":" in self.host else self.host
        return name if self.port == (443 if self.is_tls else 80) else f"{name}:{self.port}"


def address_of(url: str) -> Address:
    """Raises BadConfig for what is no URL of HTTP."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = None
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadConfig(f"{url[:80]!r} is no address of a server.", fix="Write one such as http://127.0.0.1:8000/v1.")
    is_tls = parts.scheme == "https"
    return Address(parts.hostname, port or (443 if is_tls else 80), is_tls, parts.path.rstrip("/"))


class Connection(asyncio.Protocol):
    """One connection: a request out, its answer in, then perhaps another."""

    _transport: asyncio.Transport

    def __init__(self) -> None:
        self.num_answers = 0
        self.idle_since = 0.0
        self._lost: BaseException | None = None
        self._is_lost = False
        self._begin()

    def _begin(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self._num_head_bytes = 0
        self._parts: list[bytes] = []
        self._size = 0
        self.is_over = self._is_paused = self._may_stay = False
        self._waiter: asyncio.Future[None] | None = None
        self.when_over: Callable[[], None] | None = None

    # What the transport calls.

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._lost = error
            self._transport.abort()
        if self._size > HIGH_BYTES and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()
        self._wake()
        if self.is_over and self.when_over is not None:
            self.when_over()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_lost, self._lost = True, self._lost or exc
        if self.status and b"content-length" not in self.headers and b"transfer-encoding" not in self.headers:
            self.is_over = True  # its end is the connection's
        self._wake()

    # What the parser calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        self._num_head_bytes += len(name) + len(value)
        if self._num_head_bytes > HEAD_BYTES_MAX:
            self._transport.abort()
        self.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status >= 200:
            self.status = status
        else:
            self.headers.clear()  # a word in between: the answer is still to come

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)
        self._size += len(body)

    def on_message_complete(self) -> None:
        if self.status:
            self.is_over, self._may_stay = True, self._parser.should_keep_alive()

    # What the relay calls.

    @property
    def is_usable(self) -> bool:
        return not self._is_lost and not self._transport.is_closing()

    def send(self, head: bytes, body: bytes) -> None:
        """Begin a request."""
        if self.num_answers:
            self._begin()
        self.num_answers += 1
        self._transport.writelines((head, body))

    async def head(self) -> int:
        """The answer's status, once its head is there.  Raises Lost."""
        while not self.status:
            if self._is_lost:
                raise Lost(self._lost)
            await self._wait()
        return self.status

    async def read(self) -> bytes:
        """What has come since the last time, all of it; empty at the end.  Raises Lost."""
        while not self._parts:
            if self.is_over:
                return b""
            if self._is_lost:
                raise Lost(self._lost)
            await self._wait()
        parts, self._parts, self._size = self._parts, [], 0
        if self._is_paused:
            self._is_paused = False
            self._transport.resume_reading()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    @property
    def has_begun(self) -> bool:
        """Whether any of the answer has come."""
        return bool(self._num_head_bytes or self.status)

    @property
    def can_serve_again(self) -> bool:
        return self.is_over and self.is_usable and self._may_stay

    def close(self) -> None:
        self._transport.abort()

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Lost(Exception):
    """The connection ended in the middle."""


class Pool:
    """Connections to one address.  connected  told how long each took to be made, seconds"""

    def __init__(
        self, address: Address, *, tls: ssl.SSLContext | None = None, connected: Callable[[float], None] | None = None
    ) -> None:
        self.address = address
        self._tls = tls or (ssl.create_default_context() if address.is_tls else None)
        self._connected = connected
        self._idle: list[Connection] = []

    @property
    def num_idle(self) -> int:
        return len(self._idle)

    async def take(self, connect_s: float, *, fresh: bool = False) -> Connection:
        """A connection, the one used last if one rests.  Raises Unreachable.

        fresh  a new one: the one that rested was closed on us
        """
        now = time.monotonic()
        while self._idle and not fresh:
            connection = self._idle.pop()
            if connection.is_usable and now - connection.idle_since < IDLE_S:
                return connection
            connection.close()
        return await self._connect(connect_s, now)

    async def _connect(self, connect_s: float, now: float) -> Connection:
        address = self.address
        try:
            async with asyncio.timeout(connect_s):
                _, connection = await asyncio.get_running_loop().create_connection(
                    Connection, address.host, address.port, ssl=self._tls
                )
        except TimeoutError:
            why = f"did not take a connection within {connect_s:.3g} s"
        except ssl.SSLError as error:
            why = f"spoke no TLS that can be trusted ({error.reason or error})"
        except OSError as error:
            why = f"cannot be reached ({error.strerror or error})"
        else:
            if self._connected is not None:
                self._connected(time.monotonic() - now)
            return connection
        raise Unreachable(f"{address.authority} {why}.", fix="Check its address, and that the server runs.")

    def give_back(self, connection: Connection, *, linger_s: float = 0.0) -> None:
        """The answer is over, or nobody wants the rest of it.

        linger_s  what it gets to come to the end of its message, after all of the answer was said
        """
        if connection.can_serve_again:
            self._rest(connection)
        elif linger_s and not connection.is_over and connection.is_usable:
            late = asyncio.get_running_loop().call_later(linger_s, connection.close)
            connection.when_over = lambda: self._come_to_rest(connection, late)
        else:
            connection.close()

    def _come_to_rest(self, connection: Connection, late: asyncio.TimerHandle) -> None:
        late.cancel()
        connection.when_over = None
        self.give_back(connection)

    def _rest(self, connection: Connection) -> None:
        now = connection.idle_since = time.monotonic()
        self._idle.append(connection)
        while now - self._idle[0].idle_since >= IDLE_S:
            self._idle.pop(0).close()

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()


def head_of(address: Address, path: str, headers: Headers) -> bytes:
    """What goes before a body, but for its length."""
    lines = b"".join(b"%b: %b\r\n" % pair for pair in headers)
    start = f"POST {address.base}{path} HTTP/1.1\r\nhost: {address.authority}\r\n".encode()
    return start + b"content-type: application/json\r\n" + lines + b"content-length: "


__all__ = ["Address", "Connection", "Lost", "Pool", "address_of", "head_of"]
