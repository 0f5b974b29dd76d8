"""One HTTP request and its answer, over bare ASGI: the body within its limits, one send per chunk, errors in shape."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import random
import re
import time
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from typing import Any

from isochrone.budget import SINGLE, Policy
from isochrone.errors import BadRequest, IsochroneError
from isochrone.ledger import Key

from .faults import OPENAI, Dialect, HeadTooLarge, TooLarge, TooSlow, WrongEncoding, error_headers
from .limits import Limits
from .trace import Trace, server_timing

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

JSON = b"application/json"
EVENTS = b"text/event-stream"
DONE = b"data: [DONE]\n\n"
ONCE_ONLY = (b"host", b"authorization", b"x-api-key", b"origin", b"content-type", b"content-encoding")
"""Two of them, and two readers could each believe another one."""
RUN_BYTES_MAX = 256
DISCARD_BYTES_MAX = 64 * 1024 * 1024
_DRAW = random.Random()
"""Names of requests must differ, and need not be hard to guess."""
_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")


class ClientGone(Exception):
    """The caller hung up, or stopped reading.  There is nobody left to tell."""


class Call:
    """A request being answered.

    arrived_at  when its first byte was accepted, on the machine's monotonic clock
    status      of the answer; 0 until it began
    code        of the error it ended with; empty when it did not
    key         whose limits hold; None for a probe, loopback, the setting's key
    policy      what the operator asks of every request; its budget can only be tightened
    run         the agent's run that it is a step of, as its header says; empty for none
    trace       what it came to, once it generates
    more_headers  what the answer's head says beside the usual; may be added to until the answer begins
    """

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, limits: Limits, dialect: Dialect = OPENAI,
        policy: Policy = SINGLE,
    ) -> None:
        self.path: str = scope["path"]
        self.query: bytes = scope.get("query_string", b"")
        self.method: str = scope["method"]
        self._scope_headers: Headers = list(scope["headers"])
        self.headers: dict[bytes, bytes] = dict(self._scope_headers)
        self.arrived_at: float = scope.get("state", {}).get("arrived_at") or time.monotonic()
        self.tenant, self.policy = "", policy
        self.key: Key | None = None
        said = self.headers.get(b"isochrone-run", b"")[:RUN_BYTES_MAX]
        self.run = said.partition(b",")[0].strip().decode("latin-1")
        self.status, self.code = 0, ""
        self.more_headers: Headers = []
        self.trace: Trace | None = None
        self._dialect = dialect
        given = self.headers.get(b"x-request-id", b"")
        self.id = given.decode() if _REQUEST_ID.fullmatch(given) else f"{_DRAW.getrandbits(128):032x}"
        self._receive, self._send, self._limits = receive, send, limits
        self._work: asyncio.Task[Any] | None = None
        self._is_ended = False
        self._writer: asyncio.Task[Any] | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._writing_since, self._is_unread = 0.0, False
        self._abort_error: IsochroneError | None = None

    def expect_sane_head(self) -> None:
        """Raises HeadTooLarge, and BadRequest when a header that decides something is there twice."""
        names = [name for name, _ in self._scope_headers]
        for name in ONCE_ONLY:
            if names.count(name) > 1:
                raise BadRequest(
                    f"The header {name.decode()} is there twice.", fix="Send it once.", param=name.decode()
                )
        size = len(self.path) + sum(len(name) + len(value) + 4 for name, value in self._scope_headers)
        if size > self._limits.head_bytes:
            raise HeadTooLarge(
                f"The request's headers are larger than the {self._limits.head_bytes:,} bytes that this server takes.",
                fix="Send fewer or shorter headers.",
            )

    def detached(self) -> Call:
        """The same request without its caller, for work that outlives the answer: nobody hangs up, nobody reads."""
        other = copy.copy(self)
        other.status, other.trace, other.more_headers = 0, None, []
        other._receive, other._send, other._work, other._abort_error = _never, _nowhere, None, None
        other._writer = other._write_timer = None
        return other

    async def body(self) -> bytes:
        """The whole body.  Raises TooLarge, TooSlow, WrongEncoding, ClientGone."""
        if self.headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise WrongEncoding("The body is compressed.", fix="Send it without Content-Encoding.")
        stated = self.headers.get(b"content-length", b"")
        num_stated = int(stated) if stated.isdigit() and len(stated) < 20 else 0
        try:
            async with asyncio.timeout(self._limits.body_s):
                self._expect_size(num_stated)
                return await self._read()
        except TooLarge:
            if num_stated <= DISCARD_BYTES_MAX and b"expect" not in self.headers:
                await self._discard()
            raise
        except TimeoutError:
            raise TooSlow(
                f"The body did not arrive within {self._limits.body_s:g} s.", fix="Send the request in one go."
            ) from None

    async def _read(self) -> bytes:
        parts: list[bytes] = []
        size = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            self._expect_size(size)
            if not message.get("more_body", False):
                return b"".join(parts)

    async def _discard(self) -> None:
        """Take in what still comes: closing on a caller that sends resets its connection, and it never sees why."""
        size = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.body_s):
                while size <= DISCARD_BYTES_MAX:
                    message = await self._receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGone
                    size += len(message.get("body", b""))
                    if not message.get("more_body", False):
                        return

    def _expect_size(self, num_bytes: int) -> None:
        if num_bytes > self._limits.body_bytes:
            raise TooLarge(
                f"The body is larger than the {self._limits.body_bytes:,} bytes that this server takes.",
                fix="Shorten the prompt or send fewer prompts at once.",
            )

    async def until_hang_up(self, answer: Coroutine[Any, Any, None]) -> None:
        """Run the answer, and cancel it as soon as the caller is gone.

        To be used after the body was read: what the caller sends now can only be its farewell.
        Raises what the answer raises, what `abort` was given, or ClientGone.
        """
        work = self._work = asyncio.current_task()
        assert work is not None, "an answer is given in a task"
        num_cancels, self._is_ended = work.cancelling(), False
        watch = asyncio.ensure_future(self._hung_up())
        watch.add_done_callback(self._on_hang_up)
        try:
            await answer
        except asyncio.CancelledError:
            if self._is_ended and work.cancelling() <= num_cancels + 1:
                raise (self._abort_error or ClientGone) from None
            raise
        finally:
            self._work = None
            watch.cancel()
            if self._is_ended:
                work.uncancel()

    def abort(self, error: IsochroneError) -> None:
        """End the answer that `until_hang_up` runs, with this error."""
        if self._work is not None and not self._is_ended:
            self._abort_error = error
            self._end()

    def _on_hang_up(self, watch: asyncio.Future[None]) -> None:
        if self._work is not None and not self._is_ended and not watch.cancelled():
            watch.exception()  # whatever keeps it from hearing the caller, the caller is gone
            self._end()

    def _end(self) -> None:
        assert self._work is not None  # the callers looked
        self._is_ended = True
        self._work.cancel()

    async def _hung_up(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def respond(
        self, body: bytes, *, status: int = 200, kind: bytes = JSON, headers: Headers | None = None
    ) -> None:
        """The whole answer in one go."""
        extra = [(b"content-length", b"%d" % len(body)), *(headers or [])]
        await self._start(status, kind, extra)
        await self._write(b"" if self.method == "HEAD" else body, more=False)

    async def fail(self, error: IsochroneError) -> None:
        """The error, as a status while nothing was said, as a last event of the stream afterwards."""
        self.code = error.code
        if not self.status:
            body, status = self._dialect.body(error, self.id), self._dialect.status(error)
            await self.respond(body, status=status, headers=error_headers(error))
        else:
            await self._write(self._dialect.event(error, self.id), more=False)

    async def stream(self, events: bytes, *, kind: bytes = EVENTS) -> None:
        """Some server-sent events, in one send.  The first call begins the answer; kind  its content type"""
        if not self.status:
            await self._start(200, kind, [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")])
        await self._write(events, more=True)

    async def end_stream(self, events: bytes = b"", *, kind: bytes = EVENTS, mark: bytes = DONE) -> None:
        """The last events and the mark that the answer is whole, in one send."""
        if not self.status:
            await self.stream(b"", kind=kind)
        await self._write(events + mark, more=False)

    async def _start(self, status: int, kind: bytes, headers: Headers) -> None:
        self.status = status
        ids = [(name, self.id.encode()) for name in (b"x-request-id", *self._dialect.id_headers)]
        headers = [(b"content-type", kind), *ids, *headers, *self.more_headers]
        if self.trace is not None:
            headers += self._facts(self.trace)
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    def _facts(self, trace: Trace) -> Headers:
        """What is known of the answer's time and way."""
        timing, route = server_timing(trace), trace.route
        headers = [(b"server-timing", timing)] if timing else []
        if route is None:
            return headers
        from .answer_facts import route_headers  # a single model has no route

        total_s = trace.last_at - trace.arrived_at if trace.finish_reason else None
        return headers + route_headers(route, trace.ttft_s, total_s)

    async def _write(self, body: bytes, *, more: bool) -> None:
        """Raises ClientGone when the caller's buffers stay full.  One lazy timer serves all writes of an answer."""
        task = self._writer = asyncio.current_task()
        assert task is not None, "an answer is given in a task"
        num_cancels, self._writing_since = task.cancelling(), time.monotonic()
        if self._write_timer is None:
            self._look_later(self._limits.write_s)
        try:
            await self._send({"type": "http.response.body", "body": body, "more_body": more})
        except asyncio.CancelledError:
            if self._is_unread and task.uncancel() <= num_cancels:
                raise ClientGone from None
            raise
        finally:
            self._writer = None
            if not more and self._write_timer is not None:
                self._write_timer.cancel()

    def _look_later(self, seconds: float) -> None:
        self._write_timer = asyncio.get_running_loop().call_later(seconds, self._look_at_write)

    def _look_at_write(self) -> None:
        self._write_timer = None
        if self._writer is None:
            return  # nothing waits: the next write sets it again
        left_s = self._writing_since + self._limits.write_s - time.monotonic()
        if left_s > 0.0:
            self._look_later(left_s)
            return
        self._is_unread = True
        self._writer.cancel()


async def _never() -> MutableMapping[str, Any]:
    await asyncio.Event().wait()
    raise AssertionError("nobody sets it")


async def _nowhere(message: MutableMapping[str, Any]) -> None:
    """What is said to nobody is not said."""
