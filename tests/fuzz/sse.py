"""Fuzz the reader of streams that the benchmarks time servers with."""

from __future__ import annotations

import asyncio
from functools import cache

from tests.fuzz.target import Target

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def read(content: bytes) -> None:
    """Whatever a server sends becomes an answer, with its problem in words where there is one."""
    from benchmarks.http_client import Answer, read_answer

    async def one() -> Answer:
        reader = asyncio.StreamReader()
        reader.feed_data(content)
        reader.feed_eof()
        answer = Answer(sent_at=0.0)
        try:
            await read_answer(reader, answer, None)
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
            answer.problem = str(error) or type(error).__name__
        return answer

    answer = _loop().run_until_complete(one())
    assert answer.is_complete or answer.problem is not None, "a stream without an end is no answer"


def seeds() -> list[bytes]:
    event = b'data: {"choices": [{"text": "Hel", "finish_reason": "stop"}]}\n\n'
    last = b'data: {"choices": [], "usage": {"completion_tokens": 2}}\n\ndata: [DONE]\n\n'
    chunked = HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n"
    refused = b'HTTP/1.1 503 Busy\r\n\r\n{"error": {"message": "no", "code": "overloaded"}}'
    return [b"", HEAD + b"\r\n" + event + last, chunked % (len(event), event, len(last), last), refused]


TARGET = Target("sse", read, seeds, ("benchmarks.http_client",))
