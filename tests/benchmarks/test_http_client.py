"""The streaming client of the benchmarks: it counts what a server really sent, and tells refusals from failures."""

import asyncio

import pytest

from benchmarks.http_client import get, stream_completion
from benchmarks.serving_measures import classify, quantile, summarise

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENTS = (
    b'data: {"choices": [{"text": "Hel", "finish_reason": null}]}\n\n',
    b'data: {"choices": [{"text": "lo", "finish_reason": null}]}\n\n',
    b'data: {"choices": [{"text": "", "finish_reason": "length"}]}\n\n',
    b'data: {"choices": [], "usage": {"completion_tokens": 2}}\n\ndata: [DONE]\n\n',
)


def chunked(*pieces):
    return HEAD + b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


async def ask(reply, **options):
    """One request against a server that sends `reply` and closes."""

    async def serve(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        length = next((line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), b":0")
        await reader.readexactly(int(length.split(b":")[1]))
        writer.write(reply)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        if options.pop("is_get", False):
            return await get("127.0.0.1", port, "/health")
        return await stream_completion("127.0.0.1", port, {"prompt": [1]}, **options)


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_a_stream_is_counted_however_it_is_cut_into_chunks(size):
    whole = b"".join(EVENTS)
    answer = await ask(chunked(*(whole[i : i + size] for i in range(0, len(whole), size))))
    assert (answer.status, answer.num_tokens, answer.finish_reason, answer.problem) == (200, 2, "length", None)
    assert len(answer.instants) == 2 and len(answer.gaps_s) == 1 and answer.ttft_s >= 0
    assert classify(answer) == "answered"


async def test_a_client_can_leave_at_any_token():
    assert (await ask(chunked(*EVENTS), hang_up_after=0)).instants == []
    answer = await ask(chunked(*EVENTS), hang_up_after=1)
    assert len(answer.instants) == 1 and classify(answer) == "left"


async def test_a_typed_refusal_is_told_from_a_failure():
    body = b'{"error": {"message": "Too many requests wait.", "type": "server_error", "code": "overloaded"}}'
    refused = await ask(b"HTTP/1.1 503 No\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    assert (refused.status, refused.code, classify(refused)) == (503, "overloaded", "refused")
    failed = await ask(b"HTTP/1.1 500 No\r\nContent-Length: 4\r\n\r\noops")
    assert classify(failed) == "failed" and "oops" in failed.problem


@pytest.mark.parametrize("reply", [b"", HEAD, chunked(EVENTS[0]), chunked(*EVENTS)[:-20], b"nonsense\r\n\r\n"])
async def test_a_connection_that_breaks_is_a_failure_and_never_an_exception(reply):
    answer = await ask(reply)
    assert answer.problem and classify(answer) == "failed"


async def test_an_error_inside_a_stream_is_seen():
    answer = await ask(chunked(EVENTS[0], b'data: {"error": {"message": "gone", "code": "engine_died"}}\n\n'))
    assert answer.problem == "gone" and answer.code == "engine_died" and not answer.is_complete


async def test_a_plain_get_gives_status_and_body():
    assert await ask(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\na b", is_get=True) == (200, "a b")


async def test_a_summary_names_every_answer_that_was_not_whole():
    whole, short = await ask(chunked(*EVENTS)), await ask(chunked(EVENTS[0]))
    load = summarise("server", 2, [whole, short], 0.5, 2)
    assert load.tokens_per_s == 4.0 and len(load.problems) == 1


def test_a_quantile_is_a_value_that_was_seen():
    assert [quantile([1.0, 2.0, 3.0, 4.0], share) for share in (0.0, 0.5, 0.99)] == [1.0, 3.0, 4.0]
    assert quantile([], 0.5) != quantile([], 0.5)
