"""A server of OpenAI's chat API that costs next to nothing: what a gateway adds is measured in front of it.

    python -m benchmarks.gateway_upstream PORT

A model's name says how it answers: `mock-20-10-16` gives its first word after 20 ms and 16 words 10 ms apart.
Bytes are made once for each name; a request costs one scan of its body.
"""

from __future__ import annotations

import asyncio
import re
import sys
from functools import cache
from typing import Any

import uvloop

MODEL = re.compile(rb'"model": ?"(mock-(\d+)-(\d+)-(\d+))"')
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
LISTING = (
    b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 27\r\n\r\n{"object":"list","data":[]}'
)
END = b"0\r\n\r\n"
WHOLE = (
    b'{"id":"chatcmpl-mock","object":"chat.completion","created":1700000000,"model":"mock","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"words"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":12,"completion_tokens":1,"total_tokens":13}}'
)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@cache
def frames(model: bytes, num_words: int) -> tuple[bytes, bytes, bytes, bytes]:
    """(the role and the first word, a word, the end, the usage before the end), as they go over the wire."""
    start = (
        b'data: {"id":"chatcmpl-0123456789abcdef0123456789abcdef","object":"chat.completion.chunk",'
        b'"created":1700000000,"model":"%b","system_fingerprint":"fp_mock","choices":[' % model
    )
    choice = b'{"index":0,"delta":%b,"logprobs":null,"finish_reason":%b}]}\n\n'
    role = _chunk(start + choice % (b'{"role":"assistant","content":""}', b"null"))
    word = _chunk(start + choice % (b'{"content":" word"}', b"null"))
    stop = _chunk(start + choice % (b"{}", b'"stop"'))
    counts = b'{"prompt_tokens":12,"completion_tokens":%d,"total_tokens":%d}' % (num_words, 12 + num_words)
    usage = _chunk(start + b'],"usage":%b}\n\n' % counts)
    done = _chunk(b"data: [DONE]\n\n") + END
    return role + word, word, stop + done, stop + usage + done


class Upstream(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._data = b""

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, mark, body = self._data.partition(b"\r\n\r\n")
        if not mark:
            return
        length = LENGTH.search(head + b"\r\n")
        num_bytes = int(length[1]) if length else 0
        if len(body) < num_bytes:
            return
        self._data = body[num_bytes:]
        self._answer(body[:num_bytes])

    def _answer(self, body: bytes) -> None:
        found = MODEL.search(body)
        if found is None:
            self._transport.write(LISTING)
            return
        first_s, gap_s, num_words = int(found[2]) / 1000, int(found[3]) / 1000, int(found[4])
        if b'"stream":true' not in body.replace(b" ", b""):
            head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(WHOLE)
            self._loop.call_later(first_s, self._write, head + WHOLE)
            return
        opening, word, end, end_with_usage = frames(found[1], num_words)
        last = end_with_usage if b"include_usage" in body else end
        self._loop.call_later(first_s, self._stream, HEAD + opening, word, last, gap_s, num_words - 1)

    def _stream(self, data: bytes, word: bytes, last: bytes, gap_s: float, num_left: int) -> None:
        if self._transport is None:
            return
        if num_left == 0:
            data += last
        self._transport.write(data)
        if num_left:
            self._loop.call_later(gap_s, self._stream, word, word, last, gap_s, num_left - 1)

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", port)
    print("listening", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
