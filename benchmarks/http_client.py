"""A streaming client of the OpenAI completions API on bare asyncio: it shares the cores with the server it times."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Answer:
    """What one request got.  Instants are on this process's monotonic clock.

    status       HTTP status, 0 when the connection failed;  code  of the typed error, if one came
    instants     when each content delta arrived
    num_tokens   from the usage that closes a stream
    problem      what went wrong in words; None when nothing did
    """

    sent_at: float
    status: int = 0
    code: str | None = None
    instants: list[float] = field(default_factory=list)
    num_tokens: int = 0
    finish_reason: str | None = None
    is_hung_up: bool = False
    problem: str | None = None

    @property
    def is_refusal(self) -> bool:
        """A typed refusal: the server said no, in its own words."""
        return self.status >= 400 and self.code is not None

    @property
    def is_complete(self) -> bool:
        """Streamed to its end."""
        return self.status == 200 and self.finish_reason is not None and self.problem is None

    @property
    def ttft_s(self) -> float:
        """From the request's last byte sent to the first content delta."""
        return self.instants[0] - self.sent_at

    @property
    def gaps_s(self) -> list[float]:
        """Times between deltas."""
        return [later - sooner for sooner, later in zip(self.instants, self.instants[1:], strict=False)]


async def stream_completion(
    host: str, port: int, body: dict[str, object], *, hang_up_after: int | None = None, timeout_s: float = 120.0
) -> Answer:
    """POST /v1/completions and read the stream; hang up after that many deltas when told to."""
    answer = Answer(sent_at=time.monotonic())
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(_request(host, "/v1/completions", json.dumps(body).encode()))
            await writer.drain()
            answer.sent_at = time.monotonic()
            if hang_up_after == 0:
                answer.is_hung_up = True
                return answer
            await read_answer(reader, answer, hang_up_after)
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError, ValueError) as error:
        answer.problem = f"{type(error).__name__}: {error}"
    finally:
        if writer is not None:
            writer.close()
    return answer


async def get(host: str, port: int, path: str, *, timeout_s: float = 10.0) -> tuple[int, str]:
    """(status, body) of a plain GET; raises OSError when nobody listens."""
    async with asyncio.timeout(timeout_s):
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        status, is_chunked = await _read_head(reader)
        parts = [line async for line in _lines(reader, is_chunked)]
        writer.close()
        return status, "\n".join(parts)


async def post(
    host: str, port: int, path: str, body: bytes, *, headers: dict[str, str] | None = None,
    leaves_after: int | None = None, timeout_s: float = 120.0,
) -> tuple[int, str]:  # fmt: skip
    """(status, body) of a POST; whoever leaves after some lines of the answer (0: before it begins) has what it read.

    Raises OSError, TimeoutError, IncompleteReadError, and ValueError for what is no HTTP.
    """
    async with asyncio.timeout(timeout_s):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(_request(host, path, body, headers))
            await writer.drain()
            if leaves_after == 0:
                return 0, ""
            status, is_chunked = await _read_head(reader)
            parts: list[str] = []
            async for line in _lines(reader, is_chunked):
                parts.append(line)
                if len(parts) == leaves_after:
                    break
            return status, "\n".join(parts)
        finally:
            writer.close()


def _request(host: str, path: str, body: bytes, headers: dict[str, str] | None = None) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nConnection: close\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def read_answer(reader: asyncio.StreamReader, answer: Answer, hang_up_after: int | None) -> None:
    """Fill the answer from what the server says, until its end or that many deltas.

    Raises OSError, IncompleteReadError, LimitOverrunError, and ValueError for what is no such stream.
    """
    answer.status, is_chunked = await _read_head(reader)
    if answer.status != 200:
        body = "\n".join([line async for line in _lines(reader, is_chunked)])
        answer.code, answer.problem = _error(body)
        return
    async for line in _lines(reader, is_chunked):
        if not line.startswith("data:") or line.endswith("[DONE]"):
            continue
        try:
            _take(answer, json.loads(line[5:]))
        except (AttributeError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"not a chunk of a completion: {line[:200]!r}") from error
        if hang_up_after is not None and len(answer.instants) >= hang_up_after:
            answer.is_hung_up = True
            return
    if answer.finish_reason is None and answer.problem is None:
        answer.problem = "the stream ended without a finish reason"


def _take(answer: Answer, chunk: dict[str, Any]) -> None:
    """Account for one event."""
    if "error" in chunk:
        answer.code, answer.problem = _error(json.dumps(chunk))
        return
    for choice in chunk.get("choices", ()):
        if choice.get("text"):
            answer.instants.append(time.monotonic())
        answer.finish_reason = choice.get("finish_reason") or answer.finish_reason
    if usage := chunk.get("usage"):
        answer.num_tokens = int(usage["completion_tokens"])


def _error(body: str) -> tuple[str | None, str]:
    """(code, message) of an OpenAI-shaped error; no code when the body is something else."""
    try:
        error = json.loads(body)["error"]
        return str(error.get("code") or error["type"]), str(error["message"])
    except (ValueError, KeyError, TypeError):
        return None, f"not a typed error: {body[:200]!r}"


async def _read_head(reader: asyncio.StreamReader) -> tuple[int, bool]:
    """(status, whether the body comes in chunks)"""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    status, _, fields = head.partition("\r\n")
    return int(status.partition(" ")[2].partition(" ")[0]), "transfer-encoding: chunked" in fields.lower()


async def _lines(reader: asyncio.StreamReader, is_chunked: bool) -> AsyncIterator[str]:
    """The body's lines as they come."""
    rest = b""
    while True:
        piece = await _chunk(reader) if is_chunked else await reader.read(65536)
        if not piece:
            break
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            yield line.rstrip(b"\r").decode()
    if rest:
        yield rest.decode()


async def _chunk(reader: asyncio.StreamReader) -> bytes:
    """One chunk of a chunked body; empty at its end."""
    size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
    data = await reader.readexactly(size + 2)
    return data[:size]
