"""Nothing of the ledger is on the way of a token: with its database locked, answers flow as they do without it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from isochrone.gateway.serve import Serving
from isochrone.ledger import timelines_of
from isochrone.ledger.database import connect_or_say
from tests.gateway.conftest import MODEL, Server, start_server, stop_server

NUM_REQUESTS, NUM_TOKENS = 30, 100


@pytest.fixture
def server(tokenizer_directory: Path, tmp_path: Path) -> Iterator[Server]:
    server = start_server(
        tokenizer_directory, Serving(port=0, ledger_path=tmp_path / "ledger.db", log_level="critical")
    )
    yield server
    stop_server(server)


def answer_all(server: Server) -> tuple[float, int]:
    """(seconds, tokens) of some streamed answers, one after another."""
    client, num_chunks, began_at = server.client(), 0, time.perf_counter()
    for _ in range(NUM_REQUESTS):
        stream = client.completions.create(model=MODEL, prompt="The quick", max_tokens=NUM_TOKENS, stream=True)
        num_chunks += sum(bool(chunk.choices[0].text) for chunk in stream)
    return time.perf_counter() - began_at, num_chunks


def test_tokens_flow_while_the_database_is_locked(server: Server, record_property: pytest.RecordProperty) -> None:
    """The lock is held all along: had one token, or one request, waited for it, no answer would have come."""
    free_s, free_tokens = answer_all(server)
    server.wait_until(lambda: server.ledger.stats().num_queued == 0)
    lock = connect_or_say(server.ledger.path)
    lock.execute("BEGIN EXCLUSIVE")
    locked_s, locked_tokens = answer_all(server)
    stats = server.ledger.stats()
    assert locked_tokens == free_tokens > NUM_REQUESTS * NUM_TOKENS // 2
    assert stats.num_queued >= NUM_REQUESTS - 1 and stats.num_refused == 0
    server.wait_until(lambda: "locked" in server.ledger.stats().stuck_why)
    page = server.send("GET", "/metrics")[2].decode()
    assert "\nisochrone_ledger_stuck 1\n" in page
    lock.execute("COMMIT")
    lock.close()
    server.wait_until(lambda: server.ledger.stats().num_queued == 0)
    assert len(timelines_of(server.ledger.path, None, num_wanted=1000)) == 2 * NUM_REQUESTS
    record_property("tokens_per_s_free_and_locked", (free_tokens / free_s, locked_tokens / locked_s))
