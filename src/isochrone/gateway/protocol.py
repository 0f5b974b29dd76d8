"""The HTTP/1.1 protocol of uvicorn and httptools, with what it lacks: a deadline and a size for the head, the instant
at which a request began, and errors in the shape that the API's clients read."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from isochrone.errors import BadRequest

from .faults import HeadTooLarge, TooSlow, error_body
from .limits import Limits


def protocol_class(limits: Limits) -> type[HttpToolsProtocol]:
    """The protocol under these limits, as uvicorn wants it: a class."""
    return type("BoundedProtocol", (_Bounded,), {"limits": limits})


class _Bounded(HttpToolsProtocol):
    limits = Limits()
    _head_timer: asyncio.TimerHandle | None = None
    _awaits_head = True
    _num_head_bytes = 0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_came()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._awaits_head:
            if self._head_timer is None:
                self._await_head()
            self._num_head_bytes += len(data)
        try:
            super().data_received(data)
        except (httptools.HttpParserError, UnicodeError, AttributeError, ValueError):
            self.send_400_response("")  # a target that the parser passes and uvicorn cannot read, such as `*`
            return
        if self._awaits_head and self._num_head_bytes > self.limits.head_bytes:
            self._refuse(HeadTooLarge("The request's headers are too large.", fix="Send fewer or shorter headers."))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"]["arrived_at"] = time.monotonic()

    def on_headers_complete(self) -> None:
        self._head_came()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._awaits_head, self._num_head_bytes = True, 0

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.more_body:  # answered before the body came (an error): its rest is dropped, but not for ever
            self.loop.call_later(self.limits.body_s, self._body_is_late, self.cycle)

    def _body_is_late(self, cycle: Any) -> None:
        if cycle.more_body and self.cycle is cycle:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        self._refuse(BadRequest("This is not an HTTP/1.1 request.", fix="Speak HTTP/1.1, without TLS."))

    def _unsupported_upgrade_warning(self) -> None:
        """An upgrade that is not offered is answered like any request: nothing to warn of."""

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(self.limits.head_s, self._head_is_late)

    def _head_came(self) -> None:
        self._awaits_head = False
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        self._refuse(TooSlow("The request's headers did not arrive in time.", fix="Send the request in one go."))

    def _refuse(self, error: BadRequest) -> None:
        if self.transport.is_closing():
            return
        if self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
            self.transport.close()  # an answer is under way: nothing can be said in its middle
            return
        body = error_body(error)
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
        self.transport.write(STATUS_LINE[error.status] + head + body)
        self.transport.close()
