"""Who may ask, and as whom."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.errors import BadConfig, NotAllowed
from isochrone.gateway.access import Access, is_loopback
from isochrone.gateway.faults import NotAllowedHere
from isochrone.gateway.serve import Serving, bind
from tests.gateway.conftest import MODEL, Server, start_server, stop_server

KEY = "a-key-of-some-length"


@pytest.fixture(scope="module")
def guarded(tokenizer_directory: Path) -> Iterator[Server]:
    server = start_server(tokenizer_directory, Serving(port=0, api_key=KEY, log_level="critical"))
    yield server
    stop_server(server)


@pytest.mark.parametrize("path", ["/v1/models", "/v1/chat/completions", "/metrics", "/version", "/tokenize", "/none"])
def test_no_path_but_the_two_probes_answers_without_the_key(guarded: Server, path: str) -> None:
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {KEY}"}, {"authorization": KEY}):
        status, answer, _ = guarded.send("GET", path, headers=headers)
        assert (status, answer["www-authenticate"]) == (401, "Bearer")
    assert guarded.send("GET", path, headers={"authorization": f"Bearer {KEY}"})[0] != 401


def test_the_probes_answer_without_the_key(guarded: Server) -> None:
    guarded.wait_until(lambda: guarded.place.status().state == "ready")
    assert [guarded.send("GET", path)[0] for path in ("/health", "/ready")] == [200, 200]


def test_a_key_is_a_tenant_that_does_not_tell_the_key(guarded: Server) -> None:
    body = {"model": MODEL, "prompt": "The", "max_tokens": 1}
    guarded.send("POST", "/v1/completions", body, {"authorization": f"bearer {KEY}"})
    tenant = guarded.engine.submitted[-1].tenant
    assert tenant != "local" and KEY not in tenant and len(tenant) == 16


@pytest.mark.parametrize("header", [{"host": "evil.example"}, {"origin": "https://evil.example"}, {"origin": "null"}])
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


@given(st.text(max_size=40))
def test_no_name_is_loopback_that_does_not_say_so(name: str) -> None:
    if is_loopback(name):
        assert any(word in name.lower() for word in ("localhost", "127.", "::1"))


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


def test_a_port_in_use_is_said_with_a_way_out() -> None:
    with bind("127.0.0.1", 0) as listener:
        with pytest.raises(BadConfig, match=r"in use.*--port"):
            bind("127.0.0.1", listener.getsockname()[1])


def test_an_address_of_another_machine_is_said() -> None:
    with pytest.raises(BadConfig, match=r"cannot be listened on|no address"):
        bind("203.0.113.7", 0)
