"""Streaming callers for the gateway's measurement: bare protocols, so that the measuring takes little of the core.

    python -m benchmarks.gateway_load PORT MODEL NUM_STREAMS SECONDS [RATE_PER_S]    prints one JSON object

Without a rate, each stream begins anew when it has ended (closed loop).  With one, requests are sent at that rate
whatever becomes of them (open loop), on as many connections as that needs.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import uvloop

WORD = b'"content":" word"'
SPACED = b'"content": " word"'
KEY = "sk-bench-0123456789abcdef0123456789abcdef"
PROMPT = "Say in one paragraph what an isochrone is, and why a product designer should care. " * 4


@dataclass(slots=True)
class Tally:
    """What all streams together saw."""

    ttft_s: list[float] = field(default_factory=list)
    num_streams: int = 0
    num_words: int = 0
    num_bytes: int = 0
    problems: list[str] = field(default_factory=list)
    elapsed_s: float = 0.0


class Caller(asyncio.Protocol):
    """One connection: a request, its stream, and whatever `on_end` wants next."""

    def __init__(self, request: bytes, tally: Tally, on_end: Any) -> None:
        self._request, self._tally, self._on_end = request, tally, on_end
        self._transport: Any = None
        self._is_open = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def begin(self) -> None:
        self._is_open, self._has_word, self._tail = True, False, b""
        self._sent_at = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        tally = self._tally
        tally.num_bytes += len(data)
        num_words = data.count(WORD) or data.count(SPACED)
        tally.num_words += num_words
        if num_words and not self._has_word:
            self._has_word = True
            tally.ttft_s.append(time.perf_counter() - self._sent_at)
        self._tail = (self._tail + data)[-32:]
        if self._tail.endswith(b"\r\n0\r\n\r\n"):
            if not self._has_word:
                tally.problems.append(data[:300].decode(errors="replace"))
            tally.num_streams += 1
            self._is_open = False
            self._on_end(self)
        elif not self._has_word and data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 200"):
            tally.problems.append(data[:500].decode(errors="replace"))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._is_open:
            self._tally.problems.append(f"the connection ended: {exc}")

    def close(self) -> None:
        self._is_open = False
        self._transport.close()


def request_of(port: int, model: str, *, usage: bool = False) -> bytes:
    body: dict[str, Any] = {
        "model": model, "stream": True, "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 64,
    }  # fmt: skip
    if usage:
        body["stream_options"] = {"include_usage": True}
    data = json.dumps(body).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {KEY}\r\n"
        f"Content-Type: application/json\r\nAccept: application/json\r\nUser-Agent: OpenAI/Python\r\n"
        f"Content-Length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


async def run(port: int, model: str, num_streams: int, seconds: float, rate_per_s: float | None) -> Tally:
    """All of it."""
    loop, tally = asyncio.get_running_loop(), Tally()
    request = request_of(port, model)
    idle: list[Caller] = []
    until = loop.time() + seconds
    num_open = 0
    is_over = asyncio.Event()

    def on_end(caller: Caller) -> None:
        nonlocal num_open
        if rate_per_s is None and loop.time() < until:
            caller.begin()
            return
        idle.append(caller)
        num_open -= 1
        if not num_open and loop.time() >= until:
            is_over.set()

    for _ in range(num_streams):
        _, caller = await loop.create_connection(lambda: Caller(request, tally, on_end), "127.0.0.1", port)
        idle.append(caller)
    started = time.perf_counter()
    until = loop.time() + seconds
    if rate_per_s is None:
        first = list(idle)
        idle.clear()
        for caller in first:
            num_open += 1
            caller.begin()
            await asyncio.sleep(0.3 / num_streams)  # streams of one age would all speak at once
    else:
        draw = random.Random(7)
        next_at = loop.time()
        while next_at < until:
            next_at += draw.expovariate(rate_per_s)
            if (wait_s := next_at - loop.time()) > 0:
                await asyncio.sleep(wait_s)
            if idle:
                num_open += 1
                idle.pop().begin()
            else:
                tally.problems.append("no connection was free")
    async with asyncio.timeout(30):
        await is_over.wait() if num_open else None
    tally.elapsed_s = time.perf_counter() - started
    for caller in idle:
        caller.close()
    return tally


def main() -> None:
    port, model, num_streams, seconds = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
    rate_per_s = float(sys.argv[5]) if len(sys.argv) > 5 else None
    tally = uvloop.run(run(port, model, num_streams, seconds, rate_per_s))
    tally.problems = [*tally.problems[:5], f"{len(tally.problems)} in all"] if tally.problems else []
    print(json.dumps(asdict(tally)))


if __name__ == "__main__":
    main()
