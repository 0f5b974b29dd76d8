"""Servers of OpenAI's chat API that do what a test says: on loopback, in the test's own loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"

LISTING = (
    b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 27\r\n\r\n{"object":"list","data":[]}'
)


def chunk(delta: dict[str, Any], reason: str | None = None, **more: Any) -> bytes:
    """A frame of a stream."""
    body = {"id": "up", "object": "chat.completion.chunk", "model": "theirs",
            "choices": [{"index": 0, "delta": delta, "finish_reason": reason}], **more}  # fmt: skip
    return f"data: {json.dumps(body)}\n\n".encode()


ROLE = chunk({"role": "assistant", "content": ""})
USAGE = b'data: {"id":"up","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2}}\n\n'
DONE = b"data: [DONE]\n\n"


def words(*texts: str) -> list[bytes]:
    """A whole stream."""
    return [ROLE, *(chunk({"content": text}) for text in texts), chunk({}, "stop"), USAGE, DONE]


@dataclass
class Upstream:
    """One server.

    play     writes the answer to a body: (body, write) -> None;  raising hangs up
    bodies   as they came;  heads: their first lines and headers;  num_connections  ever made
    hung_up  set when a caller left before the end
    """

    play: Callable[[dict[str, Any], Callable[[bytes], Awaitable[None]]], Awaitable[None]]
    port: int = 0
    bodies: list[bytes] = field(default_factory=list)
    heads: list[bytes] = field(default_factory=list)
    num_connections: int = 0
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_connections += 1

        async def write(data: bytes) -> None:
            if reader.at_eof() or writer.is_closing():
                raise ConnectionResetError
            writer.write(data)
            await writer.drain()

        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"GET"):
                    await write(LISTING)
                    continue
                lines = (line.lower() for line in head.split(b"\r\n"))
                length = next(line for line in lines if line.startswith(b"content-length:"))
                body = await reader.readexactly(int(length[15:]))
                self.heads.append(head)
                self.bodies.append(body)
                await self.play(json.loads(body), write)
        except (ConnectionError, asyncio.IncompleteReadError, StopIteration):
            if reader.at_eof() or writer.is_closing():
                self.hung_up.set()
        finally:
            writer.close()


def streamed(frames: list[bytes], *, cut: bool = False) -> Callable[..., Awaitable[None]]:
    """Plays frames, each as a chunk of its own.  cut  and then closes in the middle"""

    async def play(body: dict[str, Any], write: Callable[[bytes], Awaitable[None]]) -> None:
        await write(HEAD)
        for frame in frames:
            await write(b"%x\r\n%b\r\n" % (len(frame), frame))
        if cut:
            raise ConnectionResetError
        await write(b"0\r\n\r\n")

    return play


def refused(status: int, message: str, headers: str = "") -> Callable[..., Awaitable[None]]:
    """Plays an error."""
    text = json.dumps({"error": {"message": message}}).encode()
    head = f"HTTP/1.1 {status} No\r\ncontent-type: application/json\r\n{headers}content-length: {len(text)}\r\n\r\n"

    async def play(body: dict[str, Any], write: Callable[[bytes], Awaitable[None]]) -> None:
        await write(head.encode() + text)

    return play


@asynccontextmanager
async def running(play: Callable[..., Awaitable[None]]) -> AsyncIterator[Upstream]:
    """A server for as long as this is open."""
    upstream = Upstream(play)
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    upstream.port = server.sockets[0].getsockname()[1]
    try:
        yield upstream
    finally:
        server.close()
