"""A server on loopback that gives canned answers, byte for byte and cut where a test wants it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Canned:
    """What a path answers.  cuts  sizes of the pieces in which the body is sent;  dies: closes without an end

    holds  set by the test before the rest of the body is sent
    """

    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cuts: tuple[int, ...] = ()
    dies: bool = False
    holds: asyncio.Event | None = None


class CannedServer:
    """pages  path -> what it answers;  asked: bodies that came, as JSON;  num_open: connections;  gone: hung up on"""

    def __init__(self) -> None:
        self.pages: dict[str, Canned] = {}
        self.asked: list[tuple[str, Any]] = []
        self.keys: list[str] = []
        self.num_connections = 0
        self.gone = asyncio.Event()
        self.root = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_connections += 1
        try:
            while await self._answer(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            self.gone.set()
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        path = head.split(" ")[1]
        fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        body = await reader.readexactly(int(fields.get("content-length", "0")))
        self.asked.append((path, json.loads(body) if body else None))
        self.keys.append(fields.get("authorization", ""))
        page = self.pages.get(path, Canned(b"<html>none</html>", 404))
        headers = {"content-type": "text/event-stream", "transfer-encoding": "chunked", **page.headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"HTTP/1.1 {page.status} Said\r\n{lines}\r\n".encode())
        data = page.body
        for size in (*page.cuts, len(data)):
            part, data = data[:size], data[size:]
            if part:
                writer.write(b"%x\r\n%b\r\n" % (len(part), part))
                await writer.drain()
                await asyncio.sleep(0)
        if page.holds is not None:
            hangs_up = asyncio.ensure_future(reader.read(1))
            held = asyncio.ensure_future(page.holds.wait())
            await asyncio.wait((hangs_up, held), return_when=asyncio.FIRST_COMPLETED)
            held.cancel()
            if hangs_up.done():
                self.gone.set()
                return False
            hangs_up.cancel()
        if page.dies:
            return False
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True


@asynccontextmanager
async def canned() -> AsyncIterator[CannedServer]:
    server = CannedServer()
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    host, port = listener.sockets[0].getsockname()[:2]
    server.root = f"http://{host}:{port}"
    async with listener:
        yield server


def chunk(delta: Any = None, *, reason: str | None = None, index: int = 0, **more: Any) -> dict[str, Any]:
    choice = {"index": index, "delta": delta or {}, "finish_reason": reason}
    return {"id": "c", "object": "chat.completion.chunk", "choices": [choice], **more}


def events(*chunks: Any, end: bytes = b"data: [DONE]\n\n", newline: bytes = b"\n") -> bytes:
    """Chunks as an event stream; bytes among them go in as they are."""
    parts = [
        part if isinstance(part, bytes) else b"data: %s\n\n" % json.dumps(part, ensure_ascii=False).encode()
        for part in chunks
    ]
    return (b"".join(parts) + end).replace(b"\n", newline)


def usage(prompt: int, answer: int, **more: Any) -> dict[str, Any]:
    return {"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": answer, **more}}
