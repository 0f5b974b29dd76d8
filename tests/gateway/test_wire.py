"""What comes over the socket may be broken, slow, huge or hostile: each gets an answer in shape, or a clean end."""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from isochrone.errors import EngineDied
from tests.gateway.conftest import MODEL, Server

CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "The quick"}], "max_tokens": 400}


@contextmanager
def connected(server: Server) -> Iterator[socket.socket]:
    with socket.create_connection(server.address, timeout=10) as connection:
        yield connection


def read_all(connection: socket.socket) -> bytes:
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


def error_of(answer: bytes) -> tuple[int, dict[str, str]]:
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["error"]


def request(path: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "host: localhost", f"content-length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # a TLS hello
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost : localhost\r\n\r\n",
    ],
)
def test_what_is_not_http_gets_a_400_in_shape(server: Server, sent: bytes) -> None:
    with connected(server) as connection:
        connection.sendall(sent)
        status, error = error_of(read_all(connection))
    assert status == 400 and error["type"] == "invalid_request_error"


def test_a_target_that_is_no_path_is_not_found(server: Server) -> None:
    with connected(server) as connection:
        connection.sendall(b"OPTIONS * HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        status, _ = error_of(read_all(connection))
    assert status in (400, 404)


def test_an_upgrade_that_is_not_offered_is_an_ordinary_request(server: Server) -> None:
    with connected(server) as connection:
        upgrade = b"connection: close, upgrade\r\nupgrade: websocket\r\n"
        connection.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n" + upgrade + b"\r\n")
        assert read_all(connection).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("body", "says"), [(b"{", "not JSON"), (b"\xff", "JSON"), (b'{"a":' * 2000, "nested"), (b"", "JSON")]
)
def test_a_body_that_is_not_json_is_said_so(server: Server, body: bytes, says: str) -> None:
    if says == "nested":
        body = b'{"model":"tiny","metadata":' + body
    status, _, answer = server.send("POST", "/v1/chat/completions", body)
    assert status == 400 and says in json.loads(answer)["error"]["message"]


def test_the_wrong_path_and_the_wrong_method_say_what_is_right(server: Server) -> None:
    status, _, answer = server.send("POST", "/v1/nothing", {})
    assert status == 404 and "/v1/chat/completions" in json.loads(answer)["error"]["message"]
    status, _, answer = server.send("GET", "/v1/chat/completions")
    assert status == 405 and "Use POST" in json.loads(answer)["error"]["message"]


def test_a_stated_size_over_the_limit_is_refused_before_it_is_sent(server: Server) -> None:
    with connected(server) as connection:
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99999999\r\n\r\n")
        status, error = error_of(read_all(connection))
    assert (status, error["code"]) == (413, "request_too_large")


def test_a_caller_that_sends_all_of_a_too_large_body_reads_why(server: Server) -> None:
    status, _, answer = server.send("POST", "/v1/completions", b" " * 3_000_000)
    assert (status, json.loads(answer)["error"]["code"]) == (413, "request_too_large")


def test_a_body_that_trickles_after_its_error_is_given_up(server: Server) -> None:
    with connected(server) as connection:
        connection.sendall(b"POST /v1/nothing HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\nx")
        status, _ = error_of(read_all(connection))  # returns when the server closes
    assert status == 404


def test_a_size_that_is_not_stated_is_counted(server: Server) -> None:
    with connected(server) as connection:
        head = b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
        connection.sendall(head + b"".join(b"1000\r\n" + b" " * 4096 + b"\r\n" for _ in range(6)))
        status, _ = error_of(read_all(connection))
    assert status == 413


def test_a_compressed_body_is_refused(server: Server) -> None:
    status, _, _ = server.send("POST", "/v1/completions", b"\x1f\x8b", {"content-encoding": "gzip"})
    assert status == 415


def test_a_body_that_does_not_come_is_given_up(server: Server) -> None:
    with connected(server) as connection:
        connection.sendall(request("/v1/completions", b"{}" * 50)[:-90])
        status, error = error_of(read_all(connection))
    assert (status, error["code"]) == (408, "request_timeout")


@pytest.mark.parametrize("sent", [b"", b"GET /health HTTP/1.1\r\nhost: lo"])
def test_a_head_that_does_not_come_is_given_up(server: Server, sent: bytes) -> None:
    with connected(server) as connection:
        connection.sendall(sent)
        status, _ = error_of(read_all(connection))
    assert status == 408


def test_a_second_request_that_does_not_come_is_given_up_too(server: Server) -> None:
    with connected(server) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        connection.sendall(b"GET /hea")
        status, _ = error_of(read_all(connection))
    assert status == 408


@pytest.mark.parametrize("end", [b"", b"\r\n\r\n"])
def test_a_head_without_end_is_refused(server: Server, end: bytes) -> None:
    with connected(server) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\nx: " + b"y" * 5000 + end)
        status, _ = error_of(read_all(connection))
    assert status == 431


def test_two_requests_in_one_packet_get_two_answers(server: Server) -> None:
    with connected(server) as connection:
        ask = b"GET /health HTTP/1.1\r\nhost: localhost\r\n"
        connection.sendall(ask + b"\r\n" + ask + b"connection: close\r\n\r\n")
        assert read_all(connection).count(b'{"status":"alive"}') == 2


def test_the_request_id_comes_back_or_is_made(server: Server) -> None:
    _, headers, _ = server.send("GET", "/health", headers={"x-request-id": "mine-1"})
    assert headers["x-request-id"] == "mine-1"
    _, headers, _ = server.send("GET", "/v1/none", headers={"x-request-id": "a" * 200})
    assert len(headers["x-request-id"]) == 32


def test_the_health_of_the_process_needs_no_model(server: Server) -> None:
    assert server.send("GET", "/health")[::2] == (200, b'{"status":"alive"}')
    assert server.send("HEAD", "/health")[::2] == (200, b"")
    server.engine.is_up = False
    try:
        assert server.send("GET", "/health")[0] == 200
        assert server.send("GET", "/ready")[::2] == (503, b'{"status":"restarting"}')
        server.engine.failure = EngineDied("It died thrice.", fix="See its log.")
        said = json.loads(server.send("GET", "/ready")[2])
        assert said == {"status": "failed", "why": "It died thrice. See its log."}
        assert server.send("GET", "/health")[0] == 200
    finally:
        server.engine.is_up, server.engine.failure = True, None
    assert server.send("GET", "/ready")[::2] == (200, b'{"status":"ready"}')
    assert b"version" in server.send("GET", "/version")[2]


@pytest.mark.parametrize("stream", [True, False])
def test_a_hang_up_frees_the_slot_at_once(server: Server, stream: bool) -> None:
    with connected(server) as connection:
        server.call(server.engine.gate.clear)
        connection.sendall(request("/v1/chat/completions", json.dumps(CHAT | {"stream": stream}).encode()))
        server.wait_until(lambda: server.engine.num_open == 1)
    server.wait_until(lambda: server.engine.num_open == 0)
    assert server.engine.num_tokens == 0


def test_a_reset_in_mid_stream_frees_the_slot(server: Server) -> None:
    with connected(server) as connection:
        connection.sendall(request("/v1/chat/completions", json.dumps(CHAT | {"stream": True}).encode()))
        server.wait_until(lambda: server.engine.num_tokens >= 3)
        server.call(server.engine.gate.clear)
        linger = struct.pack("ii", 1, 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    server.wait_until(lambda: server.engine.num_open == 0)


def test_a_client_that_reads_nothing_is_given_up(server: Server) -> None:
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        connection.connect(server.address)
        body = CHAT | {"stream": True, "n": 100, "stream_options": {"include_obfuscation": True}}
        connection.sendall(request("/v1/chat/completions", json.dumps(body).encode()))
        server.wait_until(lambda: server.engine.num_open == 1)
        server.wait_until(lambda: server.engine.num_open == 0)
    assert server.engine.num_tokens < 100 * 400


def test_more_requests_than_are_held_are_refused_with_a_time(server: Server) -> None:
    server.call(server.engine.gate.clear)
    connections = [socket.create_connection(server.address) for _ in range(6)]
    for connection in connections:
        connection.sendall(request("/v1/chat/completions", json.dumps(CHAT).encode()))
    server.wait_until(lambda: server.engine.num_open == 6)
    status, headers, answer = server.send("POST", "/v1/chat/completions", CHAT)
    assert status == 503 and headers["retry-after"] == "1" and json.loads(answer)["error"]["code"] == "overloaded"
    for connection in connections:
        connection.close()
    server.wait_until(lambda: server.engine.num_open == 0)


def test_metrics_count_what_happened_and_no_name_a_caller_made_up(server: Server) -> None:
    server.send("POST", "/v1/chat/completions", CHAT | {"max_tokens": 5})
    before = server.send("GET", "/metrics")[2].decode()
    for at in range(20):
        server.send("GET", f"/made-up-{at}")
        server.send("POST", "/v1/chat/completions", CHAT | {"model": f"made-up-{at}"})
    after = server.send("GET", "/metrics")[2].decode()
    assert "made-up" not in after and abs(len(after.splitlines()) - len(before.splitlines())) <= 3
    values = dict(line.rsplit(" ", 1) for line in after.splitlines() if not line.startswith("#"))
    assert float(values["isochrone_generation_tokens_total"]) >= 5
    assert values["vllm:kv_cache_usage_perc"] == "0.06" and values['isochrone_kv_blocks{state="free"}'] == "90"
    count = values['gen_ai_server_time_to_first_token_seconds_bucket{le="+Inf"}']
    assert count == values["gen_ai_server_time_to_first_token_seconds_count"] != "0"
    types = [line for line in after.splitlines() if line.startswith("# TYPE")]
    assert len(types) == len(set(types))


def test_a_request_starts_its_clock_at_its_first_byte(server: Server) -> None:
    body = json.dumps(CHAT | {"max_tokens": 1}).encode()
    with connected(server) as connection:
        sent_at = time.monotonic()
        whole = request("/v1/chat/completions", body, "connection: close", "x-deadline-ms: 5000")
        connection.sendall(whole[:40])
        server.send("GET", "/health")
        connection.sendall(whole[40:])
        read_all(connection)
        done_at = time.monotonic()
    submit = server.engine.submitted[0]
    assert sent_at <= submit.arrived_at <= done_at and submit.total_at == pytest.approx(submit.arrived_at + 5)
