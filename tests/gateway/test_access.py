"""Who may ask, and as whom."""

from __future__ import annotations

import asyncio
import logging
import socket
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from isochrone.errors import BadConfig, NotAllowed
from isochrone.gateway.access import OPEN_PATHS, Access, given_key, is_loopback
from isochrone.gateway.faults import NotAllowedHere
from isochrone.gateway.routes import MODEL_ROUTE, RESPONSE_ROUTES, ROUTES
from isochrone.gateway.serve import KEYS_EVERY_S, Serving, bind, watch_keys
from isochrone.ledger import Key, Keyring, keys
from isochrone.ledger.database import BUSY_S, connect_or_say
from isochrone.ledger.keys import digest_of, tenant_of
from isochrone.ledger.reader import Reader
from tests.gateway.conftest import MODEL, Server, start_server, stop_server

KEY = "a-key-of-some-length"


@pytest.fixture(scope="module")
def guarded(tokenizer_directory: Path) -> Iterator[Server]:
    server = start_server(tokenizer_directory, Serving(port=0, api_key=KEY, log_level="critical"))
    yield server
    stop_server(server)


@pytest.mark.parametrize("path", ["/v1/models", "/v1/chat/completions", "/metrics", "/version", "/tokenize", "/none"])
def test_no_path_but_the_probes_answers_without_the_key(guarded: Server, path: str) -> None:
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {KEY}"}, {"authorization": KEY}):
        status, answer, _ = guarded.send("GET", path, headers=headers)
        assert (status, answer["www-authenticate"]) == (401, "Bearer")
    assert guarded.send("GET", path, headers={"authorization": f"Bearer {KEY}"})[0] != 401


def test_the_probes_answer_without_the_key(guarded: Server) -> None:
    guarded.wait_until(lambda: guarded.place.status().state == "ready")
    assert [guarded.send("GET", path)[0] for path in ("/health", "/ready", "/livez")] == [200] * 3


def test_a_key_is_a_tenant_that_does_not_tell_the_key(guarded: Server) -> None:
    body = {"model": MODEL, "prompt": "The", "max_tokens": 1}
    guarded.send("POST", "/v1/completions", body, {"authorization": f"bearer {KEY}"})
    tenant = guarded.engine.submitted[-1].tenant
    assert tenant != "local" and KEY not in tenant and len(tenant) == 16


@pytest.mark.parametrize("header", [
    {"sec-fetch-site": "cross-site"}, {"host": "evil.example"}, {"origin": "https://evil.example"}, {"origin": "null"},
])  # fmt: skip
def test_a_page_of_another_host_is_not_answered(guarded: Server, header: dict[str, str]) -> None:
    assert guarded.send("GET", "/health", headers=header)[0] == 403


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8400", "[::1]:8400", "my.localhost", ""])
def test_names_of_this_machine_are_answered(host: str) -> None:
    assert Access("127.0.0.1").caller("/v1/models", {b"host": host.encode()}).tenant == "local"


def test_an_address_that_others_reach_needs_a_key() -> None:
    with pytest.raises(BadConfig, match="ISOCHRONE_API_KEY"):
        Access("0.0.0.0")
    access = Access("0.0.0.0", KEY)
    bearer = {b"host": b"box.example", b"authorization": f"Bearer {KEY}".encode()}
    assert access.caller("/v1/models", bearer).tenant != "local"


@given(st.from_regex(r"[a-z0-9.-]{0,20}\.(org|example|0\.0\.1\.de)", fullmatch=True))
@example("127.evil.example")
@example("127.0.0.1.rebind.org")
@example("localhost.evil.example")
def test_no_name_of_the_world_is_loopback_however_it_begins(name: str) -> None:
    assert not is_loopback(name)
    with pytest.raises(NotAllowedHere):
        Access("127.0.0.1").caller("/v1/models", {b"host": f"{name}:8400".encode()})


@given(st.binary(max_size=60))
def test_no_header_but_the_key_opens(header: bytes) -> None:
    with pytest.raises(NotAllowed):
        Access("0.0.0.0", KEY).caller("/v1/models", {b"authorization": header})


@given(st.binary(min_size=1, max_size=60))
def test_any_host_header_gets_a_typed_answer(header: bytes) -> None:
    try:
        Access("127.0.0.1").caller("/health", {b"host": header})
    except NotAllowedHere as error:
        assert error.status == 403


TRICKS = ["//health", "/health/", "/health%2f..%2fv1/models", "/%2e%2e/v1/models", "/HEALTH", "/health;x", "/health%00",
          "/v1/models/../../health", "/./v1/models", "/v1//models"]  # fmt: skip


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("path", [*ROUTES, *RESPONSE_ROUTES, MODEL_ROUTE, *TRICKS])
def test_no_method_and_no_spelling_of_a_path_passes_the_gate(guarded: Server, method: str, path: str) -> None:
    """Every route that there is, every method, and the ways in which a prefix check was fooled elsewhere."""
    if path in OPEN_PATHS:
        return
    assert guarded.send(method, path, headers={"content-length": "0"})[0] == 401


@pytest.fixture
def keyed(tokenizer_directory: Path, tmp_path: Path) -> Iterator[tuple[Server, sqlite3.Connection]]:
    """A server whose ledger holds the keys, and a connection as the command line has one."""
    connection = connect_or_say(tmp_path / "ledger.db")
    keys.add(connection, Key(b"", "first"))
    server = start_server(
        tokenizer_directory, Serving(port=0, ledger_path=tmp_path / "ledger.db", log_level="critical")
    )
    yield server, connection
    stop_server(server)
    connection.close()


def refresh(server: Server) -> None:
    """What the server does every two seconds by itself."""
    asyncio.run_coroutine_threadsafe(server.ledger.keys.refresh(time.monotonic()), server.loop).result(10)


def status(server: Server, path: str, **headers: str) -> int:
    return server.send("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})[0]


def test_a_new_key_opens_and_a_revoked_one_closes(keyed: tuple[Server, sqlite3.Connection]) -> None:
    server, connection = keyed
    secret = keys.add(connection, Key(b"", "ann"))
    assert status(server, "/v1/models", x_api_key=secret) == 401
    refresh(server)
    assert status(server, "/v1/models", x_api_key=secret) == 200
    assert status(server, "/v1/models", authorization=f"Bearer {secret}") == 200
    keys.revoke(connection, "ann")
    refresh(server)
    assert status(server, "/v1/models", x_api_key=secret) == 401


def test_keys_are_read_anew_well_within_five_seconds() -> None:
    assert KEYS_EVERY_S + 2 * BUSY_S < 5


async def test_the_watch_reads_keys_again_and_says_once_that_it_cannot(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its turns are counted, not timed: two that fail, and one that works again."""
    connection = connect_or_say(tmp_path / "ledger.db")
    secret = keys.add(connection, Key(b"", "ann"))
    good, broken = Reader(tmp_path / "ledger.db"), Reader(tmp_path)
    ring = Keyring(broken)
    turns: list[Reader] = [broken, broken, good]
    done = asyncio.Event()

    class Turns(Keyring):
        async def refresh(self, now: float) -> None:
            if not turns:
                done.set()
                return
            ring._reader = turns.pop(0)
            await ring.refresh(now)

    with caplog.at_level(logging.WARNING, "isochrone.gateway"):
        watching = asyncio.ensure_future(watch_keys(Turns(broken), every_s=0))
        await asyncio.wait_for(done.wait(), 10)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    logged = [record.getMessage() for record in caplog.records if record.name == "isochrone.gateway"]
    assert logged == ["keys.unread", "keys.read_again"]
    assert ring.find(digest_of(secret.encode())) is not None
    connection.close()


async def test_a_key_of_a_kind_that_is_not_known_does_not_end_the_watch(tmp_path: Path) -> None:
    """A newer Isochrone wrote it; keys that are revoked later are still noticed."""
    connection = connect_or_say(tmp_path / "ledger.db")
    secret = keys.add(connection, Key(b"", "ann"))
    ring = Keyring(Reader(tmp_path / "ledger.db"))
    ring.refresh_now(0.0)
    connection.execute("UPDATE keys SET scopes = 'infer,fly'")
    num_turns, done = 0, asyncio.Event()

    class Turns(Keyring):
        async def refresh(self, now: float) -> None:
            nonlocal num_turns
            num_turns += 1
            if num_turns == 3:
                connection.execute("UPDATE keys SET scopes = 'infer', revoked_at = 1")
            if num_turns == 4:
                done.set()
            await ring.refresh(now)

    watching = asyncio.ensure_future(watch_keys(Turns(Reader(tmp_path / "ledger.db")), every_s=0))
    await asyncio.wait_for(done.wait(), 10)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert ring.find(digest_of(secret.encode())) is None
    connection.close()


def test_revoking_the_last_key_opens_nothing(keyed: tuple[Server, sqlite3.Connection]) -> None:
    server, connection = keyed
    keys.revoke(connection, "first")
    refresh(server)
    assert len(server.ledger.keys) == 0
    assert status(server, "/v1/models") == 401


def test_a_key_does_only_what_it_was_made_for(keyed: tuple[Server, sqlite3.Connection]) -> None:
    server, connection = keyed
    watcher, asker = keys.add(connection, Key(b"", "w", ("observe",))), keys.add(connection, Key(b"", "a", ("infer",)))
    refresh(server)
    seen = [[status(server, path, x_api_key=key) for path in ("/metrics", "/v1/models")] for key in (watcher, asker)]
    assert seen == [[200, 403], [403, 200]]


def test_two_headers_that_hold_different_keys_are_refused(guarded: Server) -> None:
    assert status(guarded, "/v1/models", authorization=f"Bearer {KEY}", x_api_key="another") == 401
    assert status(guarded, "/v1/models", authorization=f"Bearer {KEY}", x_api_key=KEY) == 200


@pytest.mark.parametrize("name", ["authorization", "x-api-key", "host", "origin", "content-type"])
def test_a_header_that_decides_something_may_come_once(guarded: Server, name: str) -> None:
    value = "localhost" if name == "host" else f"Bearer {KEY}"
    lines = ["GET /v1/models HTTP/1.1", f"authorization: Bearer {KEY}", "connection: close", f"{name}: {value}"]
    lines += [f"{name}: evil.example"] + (["host: localhost"] if name != "host" else [])
    with socket.create_connection(guarded.address, timeout=10) as stream:
        stream.sendall("\r\n".join([*lines, "", ""]).encode())
        assert stream.recv(100).startswith((b"HTTP/1.1 400", b"HTTP/1.1 403"))


@given(st.lists(st.binary(min_size=1, max_size=40), min_size=2, max_size=5, unique=True))
def test_distinct_keys_never_share_a_tenant(given_keys: list[bytes]) -> None:
    assert len({tenant_of(digest_of(key)) for key in given_keys}) == len(given_keys)


@given(st.dictionaries(st.sampled_from([b"authorization", b"x-api-key"]), st.binary(max_size=60)))
def test_what_is_sent_as_a_key_is_a_key_or_a_typed_refusal(headers: dict[bytes, bytes]) -> None:
    try:
        key = given_key(headers)
    except NotAllowed as error:
        assert error.status == 401 and error.fix
    else:
        assert key and any(key in value for value in headers.values())


def test_a_port_in_use_is_said_with_a_way_out() -> None:
    with bind("127.0.0.1", 0) as listener:
        with pytest.raises(BadConfig, match=r"in use.*--port"):
            bind("127.0.0.1", listener.getsockname()[1])


def test_an_address_of_another_machine_is_said() -> None:
    with pytest.raises(BadConfig, match=r"cannot be listened on|no address"):
        bind("203.0.113.7", 0)
