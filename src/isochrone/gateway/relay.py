"""One attempt to have a chat answered by an OpenAI-compatible place, in the caller's own bytes.

The first piece that comes out is the commit point: before it nothing was said, and another place can be asked.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator

import msgspec

from isochrone.errors import DeadlineExceeded, IsochroneError, Unreachable
from isochrone.places.openai_faults import fault_in_stream, fault_of

from .relay_body import ChatBody
from .relay_frames import Counts, Ending, Frames, Piece
from .relay_wire import Connection, Headers, Lost, Pool, address_of, head_of

CONNECT_S = 5.0
LINGER_S = 1.0
"""After the last mark a server may take a moment to say that its message is over; the caller does not wait for it."""
BODY_BYTES_MAX = 64 * 1024 * 1024


class _Choice(msgspec.Struct):
    finish_reason: str | None = None


class _Whole(msgspec.Struct):
    choices: list[_Choice]
    usage: Counts | None = None


_WHOLE = msgspec.json.Decoder(_Whole)


class Door:
    """Where a place takes chats, with connections kept warm.

    name     of the place, for messages
    headers  that go with every request, its key among them
    """

    path = "/chat/completions"

    def __init__(self, name: str, url: str, headers: Headers, *, connect_s: float = CONNECT_S) -> None:
        address = address_of(url)
        self.name, self.connect_s = name, connect_s
        self.pool = Pool(address, connected=self._on_connected)
        self._head = head_of(address, self.path, headers)
        self.connect_took_s: float | None = None

    def _on_connected(self, seconds: float) -> None:
        self.connect_took_s = seconds

    def head(self, num_bytes: int, more: bytes = b"") -> bytes:
        return b"%b%d\r\n%b\r\n" % (self._head, num_bytes, more)

    def close(self) -> None:
        self.pool.close()


async def relay(
    door: Door, model: str, body: ChatBody, total_at: float | None, *, more: bytes = b""
) -> AsyncGenerator[Piece, None]:
    """The answer as pieces of the place's own bytes: whole frames of a stream and an ending, or one piece with all.

    total_at  when the connection is closed, whatever has come;  None: the caller stated no total time
    more      header lines that go with this request alone

    Raises what `fault_of` names, DeadlineExceeded, and Unreachable when the answer breaks off.
    """
    connection, timer = await _ask(door, body.forwarded(model), total_at, more)
    linger_s, has_begun = 0.0, False
    try:
        if connection.status != 200:
            raise fault_of(door.name, connection.status, _texts(connection), await _all(connection), time.time())
        async for piece in _frames(door, connection) if body.is_streamed else _whole(door, connection):
            has_begun = True
            linger_s = LINGER_S if piece.ending else 0.0
            yield piece
    except Lost as lost:
        raise _lost(door, total_at, has_begun=has_begun) from lost
    finally:
        _cancel(timer)
        door.pool.give_back(connection, linger_s=linger_s)


async def _ask(
    door: Door, body: bytes, total_at: float | None, more: bytes
) -> tuple[Connection, asyncio.TimerHandle | None]:
    """A connection with the head of its answer there, and the timer that ends it, if anything does."""
    head = door.head(len(body), more)
    is_fresh = False
    while True:
        if _is_over(total_at):
            raise _lost(door, total_at, has_begun=False)
        connect_s = door.connect_s if total_at is None else min(door.connect_s, total_at - time.monotonic())
        connection = await door.pool.take(connect_s, fresh=is_fresh)
        timer: asyncio.TimerHandle | None = None
        if total_at is not None:
            timer = asyncio.get_running_loop().call_later(total_at - time.monotonic(), connection.close)
        connection.send(head, body)
        try:
            await connection.head()
            return connection, timer
        except Lost as lost:
            _cancel(timer)
            if is_fresh or connection.num_answers == 1 or connection.has_begun or _is_over(total_at):
                raise _lost(door, total_at, has_begun=False) from lost
            is_fresh = True  # it had rested, and was closed while it was taken
        except BaseException:
            _cancel(timer)
            connection.close()
            raise


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


def _is_over(total_at: float | None) -> bool:
    return total_at is not None and time.monotonic() >= total_at


async def _frames(door: Door, connection: Connection) -> AsyncGenerator[Piece, None]:
    frames = Frames()
    while not frames.is_done:
        try:
            data = await connection.read()
        except Lost:
            if not frames.is_whole:
                raise
            break  # its last word was said: going on elsewhere would say more than the answer
        if not data:
            break
        piece = frames.feed(data)
        if piece is not None:
            yield piece
        if frames.error is not None:
            raise fault_in_stream(door.name, frames.error, time.time())
    if piece := frames.close():
        yield piece
    if frames.error is not None:
        raise fault_in_stream(door.name, frames.error, time.time())
    if not frames.is_whole:
        raise Unreachable(f"{door.name} ended its stream before the answer's end.", fix="Ask again.")
    yield Piece(b"", 0, True, frames.ending)


async def _whole(door: Door, connection: Connection) -> AsyncGenerator[Piece, None]:
    data = await _all(connection)
    try:
        whole = _WHOLE.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unreachable(
            f"{door.name} answered with something else than a chat completion.", fix="Check its address."
        ) from error
    usage = None if whole.usage is None else whole.usage.usage()
    reason = next((choice.finish_reason for choice in whole.choices), None)
    yield Piece(data.rstrip(), 0, True, Ending(usage, finish_reason=reason))


def _texts(connection: Connection) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in connection.headers.items()}


async def _all(connection: Connection) -> bytes:
    parts, size = [], 0
    while data := await connection.read():
        parts.append(data)
        size += len(data)
        if size > BODY_BYTES_MAX:
            raise Unreachable("A place's answer is larger than any answer.", fix="Check what its address leads to.")
    return b"".join(parts)


def _lost(door: Door, total_at: float | None, *, has_begun: bool) -> IsochroneError:
    if _is_over(total_at):
        return DeadlineExceeded(f"{door.name} did not answer within the budget.", fix="Allow more time.")
    when = "in the middle of its answer" if has_begun else "before its answer"
    return Unreachable(f"{door.name} closed the connection {when}.", fix="Ask again; if it stays, look at its log.")
