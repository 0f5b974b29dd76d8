"""What a key may use: never more in any minute than its limit and one bucket, never lost by what was not used."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import OpenAI, RateLimitError

from isochrone.gateway.faults import RateLimited
from isochrone.gateway.rates import Bucket, Rates, refill, wait_s
from isochrone.gateway.serve import Serving
from isochrone.ledger import Key, keys
from isochrone.ledger.database import connect_or_say
from tests.gateway.conftest import MODEL, Server, start_server, stop_server

KEY = Key(b"d" * 32, "ann", requests_per_min=6, tokens_per_min=600, num_concurrent=2)
Limited = tuple[Server, dict[str, str]]
GAPS = st.lists(st.floats(0, 40), min_size=1, max_size=80)


@given(GAPS, st.integers(1, 100))
def test_in_no_minute_more_requests_pass_than_twice_the_limit(gaps: list[float], per_min: int) -> None:
    """A full bucket and what flows in during the minute: the bound that a bucket gives."""
    key, rates, now, passed = replace(KEY, requests_per_min=per_min, num_concurrent=None), Rates(), 0.0, []
    for gap in gaps:
        now += gap
        try:
            rates.admit(key, now)
        except RateLimited:
            continue
        passed.append(now)
        rates.release(key, now)
    for at in passed:
        assert sum(at <= other < at + 60 for other in passed) <= 2 * per_min


@given(st.floats(-1000, 1000), st.integers(1, 1000), st.floats(0, 1000))
def test_who_waits_as_long_as_told_finds_enough(level: float, per_min: int, need: float) -> None:
    need = min(need, per_min)
    bucket = Bucket(min(level, per_min), 0.0)
    later = refill(bucket, per_min, wait_s(bucket, need, per_min))
    assert later.level >= need - 1e-6


@given(st.lists(st.tuples(st.integers(0, 900), st.integers(0, 900)), max_size=30))
def test_callers_together_overspend_by_no_more_than_was_reserved(costs: list[tuple[int, int]]) -> None:
    """All at one instant, each using at most what it reserved: the minute's tokens are the bound."""
    key, rates, spent = replace(KEY, requests_per_min=None, num_concurrent=None), Rates(), 0
    running = []
    for most, used in costs:
        rates.admit(key, 0.0)
        try:
            running.append((rates.reserve(key.tenant, most, 0.0), used))
        except RateLimited as error:
            assert error.retry_after_s > 0
    for reserved, used in running:
        spent += min(used, reserved)
        rates.settle(key.tenant, reserved, min(used, reserved), 0.0)
    assert spent <= 600


def test_what_was_reserved_and_not_used_comes_back() -> None:
    rates = Rates()
    rates.admit(KEY, 0.0)
    reserved = rates.reserve(KEY.tenant, 500, 0.0)
    with pytest.raises(RateLimited, match="can cost 200 tokens"):
        rates.reserve(KEY.tenant, 200, 0.0)
    rates.settle(KEY.tenant, reserved, 20, 0.0)
    assert rates.reserve(KEY.tenant, 580, 0.0) == 580


def test_what_costs_more_than_a_minute_waits_for_a_full_bucket_and_pays_for_it_all() -> None:
    rates = Rates()
    rates.admit(KEY, 0.0)
    reserved = rates.reserve(KEY.tenant, 5000, 0.0)
    assert reserved == 600
    rates.settle(KEY.tenant, reserved, 1200, 0.0)
    with pytest.raises(RateLimited) as error:
        rates.reserve(KEY.tenant, 1, 59.0)
    assert error.value.retry_after_s > 1
    assert rates.reserve(KEY.tenant, 1, 61.0) == 1


def test_what_runs_in_the_background_after_its_request_pays_too() -> None:
    rates = Rates()
    rates.admit(KEY, 0.0)
    rates.release(KEY, 60.0)
    assert rates.reserve(KEY.tenant, 400, 60.0) == 400
    with pytest.raises(RateLimited):
        rates.reserve(KEY.tenant, 400, 60.0)


def test_no_more_run_at_once_than_allowed_and_a_place_comes_free() -> None:
    rates = Rates()
    rates.admit(KEY, 0.0)
    rates.admit(KEY, 0.0)
    with pytest.raises(RateLimited, match="2 requests"):
        rates.admit(KEY, 0.0)
    rates.release(KEY, 0.0)
    rates.admit(KEY, 0.0)


def test_one_key_takes_nothing_from_another() -> None:
    rates, other = Rates(), replace(KEY, digest=b"e" * 32)
    for _ in range(2):
        rates.admit(KEY, 0.0)
    rates.admit(other, 0.0)
    assert dict(rates.headers(other, 0.0))[b"x-ratelimit-remaining-requests"] == b"5"


def test_a_key_at_rest_is_forgotten_and_one_that_owes_is_not() -> None:
    rates = Rates()
    for at in range(100):
        key = replace(KEY, digest=bytes([at]) * 32, requests_per_min=None, tokens_per_min=None)
        rates.admit(key, 0.0)
        rates.release(key, 0.0)
    assert not rates._uses
    rates.admit(KEY, 0.0)
    rates.release(KEY, 0.0)
    assert len(rates._uses) == 1


@pytest.fixture(scope="module")
def limited(tokenizer_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limited]:
    path = tmp_path_factory.mktemp("ledger") / "ledger.db"
    connection = connect_or_say(path)
    secrets = {
        "requests": keys.add(connection, Key(b"", "requests", requests_per_min=2)),
        "tokens": keys.add(connection, Key(b"", "tokens", tokens_per_min=100)),
        "concurrent": keys.add(connection, Key(b"", "concurrent", num_concurrent=1)),
    }
    connection.close()
    server = start_server(tokenizer_directory, Serving(port=0, ledger_path=path, log_level="critical"))
    yield server, secrets
    stop_server(server)


def ask(server: Server, secret: str, **fields: object) -> tuple[int, dict[str, str], bytes]:
    body = {"model": MODEL, "prompt": "The", "max_tokens": 2} | fields
    return server.send("POST", "/v1/completions", body, {"x-api-key": secret})


def test_the_third_request_of_two_a_minute_is_told_when_to_come_again(limited: Limited) -> None:
    server, secrets = limited
    answers = [ask(server, secrets["requests"]) for _ in range(3)]
    assert [status for status, _, _ in answers] == [200, 200, 429]
    left = [headers["x-ratelimit-remaining-requests"] for _, headers, _ in answers]
    assert left == ["1", "0", "0"]
    headers = answers[2][1]
    assert 20 <= int(headers["retry-after"]) <= 30 and 20_000 < int(headers["retry-after-ms"]) <= 30_000
    assert b'"rate_limit_error"' in answers[2][2] and b'"rate_limit_exceeded"' in answers[2][2]
    page = server.send("GET", "/metrics", headers={"x-api-key": secrets["tokens"]})[2]
    assert b"\nisochrone_rate_limited_total 1\n" in page


def test_the_openai_client_sees_a_rate_limit(limited: Limited) -> None:
    server, secrets = limited
    client = OpenAI(base_url=f"{server.url}/v1", api_key=secrets["tokens"], max_retries=0)
    client.completions.create(model=MODEL, prompt="The", max_tokens=60)
    with pytest.raises(RateLimitError, match="can cost"):
        client.completions.create(model=MODEL, prompt="The", max_tokens=90)
    assert client.completions.create(model=MODEL, prompt="The", max_tokens=5).usage is not None


def test_a_caller_that_hangs_up_frees_its_place(limited: Limited) -> None:
    server, secrets = limited
    server.call(server.engine.gate.clear)
    body = json.dumps({"model": MODEL, "prompt": "The", "max_tokens": 50}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\nx-api-key: {secrets['concurrent']}\r\n"
    with socket.create_connection(server.address, timeout=10) as caller:
        caller.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        server.wait_until(lambda: server.engine.num_open == 1)
        assert ask(server, secrets["concurrent"])[0] == 429
    server.wait_until(lambda: server.engine.num_open == 0)
    server.call(server.engine.gate.set)
    assert ask(server, secrets["concurrent"])[0] == 200


async def test_many_at_once_reserve_no_more_than_the_minute_has() -> None:
    """Sixteen callers at the same instant on one small budget: what passes fits."""
    rates, key = Rates(), replace(KEY, requests_per_min=None, num_concurrent=None, tokens_per_min=100)

    async def one() -> int:
        rates.admit(key, 0.0)
        try:
            reserved = rates.reserve(key.tenant, 30, 0.0)
        except RateLimited:
            return 0
        await asyncio.sleep(0)
        rates.settle(key.tenant, reserved, 30, 0.0)
        return 30

    assert sum(await asyncio.gather(*(one() for _ in range(16)))) == 90
