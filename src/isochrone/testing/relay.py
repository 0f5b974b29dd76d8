"""A wire with a length: a TCP relay that delays, slows, stalls and cuts what passes through it.

    async with Relay("127.0.0.1", 8400, delay_s=0.02) as relay:
        ask(f"http://127.0.0.1:{relay.port}")
        relay.stall()      # nothing passes, nothing is closed: a machine that hangs, a cable that is out
        relay.pass_on()
        relay.cut()        # every connection is reset, and new ones are refused, until `mend`

Bytes keep their order; each piece arrives `delay_s` after it came, so that streams overlap as on a real wire.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self

PIECE_BYTES = 64 * 1024
NUM_ON_THE_WIRE_MAX = 64
"""Pieces under way in one direction; then the sender waits, as for a full window."""
Piece = tuple[float, bytes]


class Relay:
    """Belongs to one event loop.

    delay_s           one way;  draw_jitter_s: further delay of a piece, drawn for each
    bytes_per_s       of each direction of each connection; None is no limit
    num_connections   made since the start
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        delay_s: float = 0.0,
        draw_jitter_s: Callable[[], float] = lambda: 0.0,
        bytes_per_s: float | None = None,
    ) -> None:
        self.to_host, self.to_port = host, port
        self.delay_s, self.draw_jitter_s, self.bytes_per_s = delay_s, draw_jitter_s, bytes_per_s
        self.num_connections = 0
        self._listener: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        self._is_cut = False

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._listener is not None, "the relay has not been started"
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        listener.setblocking(False)
        self._listener = listener
        self._spawn(self._accept(listener))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        assert self._listener is not None, "the relay has not been started"
        self._listener.close()

    def stall(self) -> None:
        """Let nothing pass; what comes waits."""
        self._flows.clear()

    def pass_on(self) -> None:
        """End a stall."""
        self._flows.set()

    def cut(self) -> None:
        """Reset every connection, and every new one, until `mend`."""
        self._is_cut = True
        for writer in list(self._writers):
            _reset(writer)

    def mend(self) -> None:
        """Take connections again."""
        self._is_cut = False

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(listener)
            self._spawn(self._carry(connection))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, connection: socket.socket) -> None:
        """One connection, until either side ends it."""
        self.num_connections += 1
        near_reader, near = await asyncio.open_connection(sock=connection)
        self._writers.add(near)
        far: asyncio.StreamWriter | None = None
        try:
            if self._is_cut:
                return _reset(near)
            await asyncio.sleep(self.delay_s)  # the handshake takes a round trip, of which this is the way there
            far_reader, far = await asyncio.open_connection(self.to_host, self.to_port)
            self._writers.add(far)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass(near_reader, far))
                both.create_task(self._pass(far_reader, near))
        except* OSError:
            for writer in filter(None, (near, far)):
                _reset(writer)
        finally:
            for writer in filter(None, (near, far)):
                self._writers.discard(writer)
                writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One direction: read as it comes, write when it is due."""
        wire: asyncio.Queue[Piece] = asyncio.Queue(NUM_ON_THE_WIRE_MAX)
        async with asyncio.TaskGroup() as ends:
            ends.create_task(self._read(reader, wire))
            ends.create_task(self._write(wire, writer))

    async def _read(self, reader: asyncio.StreamReader, wire: asyncio.Queue[Piece]) -> None:
        loop = asyncio.get_running_loop()
        due_at = 0.0
        while True:
            data = await reader.read(PIECE_BYTES)
            due_at = max(due_at, loop.time() + self.delay_s + self.draw_jitter_s())
            await wire.put((due_at, data))
            if not data:
                return

    async def _write(self, wire: asyncio.Queue[Piece], writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due_at, data = await wire.get()
            await asyncio.sleep(max(0.0, due_at - loop.time()))
            await self._flows.wait()
            if not data:
                with contextlib.suppress(OSError):  # the other side may have gone first
                    writer.write_eof()
                return
            if self.bytes_per_s:
                await asyncio.sleep(len(data) / self.bytes_per_s)
            writer.write(data)
            await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close without a farewell: the other side sees a reset."""
    connection = writer.get_extra_info("socket")
    if connection is not None and connection.fileno() >= 0:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
