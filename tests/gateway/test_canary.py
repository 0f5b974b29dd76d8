"""Known secrets go through the server by every way that there is; afterwards nothing that it wrote knows them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from isochrone.gateway import logs
from isochrone.gateway.serve import Serving
from isochrone.ledger import Key, keys, timelines_of
from isochrone.ledger.database import connect_or_say
from tests.gateway.conftest import MODEL, TEST_LIMITS, Server, start_server, stop_server

PROMPT = "canary-in-a-prompt"
WRONG_KEY = "canary-in-a-wrong-key"
BODIES = {
    "/v1/chat/completions": {"model": MODEL, "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 3},
    "/v1/completions": {"model": MODEL, "prompt": PROMPT, "max_tokens": 3},
    "/v1/responses": {"model": MODEL, "input": PROMPT, "max_output_tokens": 16, "store": False},
    "/v1/messages": {"model": MODEL, "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 3},
    "/api/chat": {"model": MODEL, "messages": [{"role": "user", "content": PROMPT}], "stream": False},
    "/api/generate": {"model": MODEL, "prompt": PROMPT, "options": {"num_predict": 3}, "stream": False},
}


@pytest.fixture
def server(tokenizer_directory: Path, tmp_path: Path) -> Iterator[tuple[Server, str, io.StringIO]]:
    connection = connect_or_say(tmp_path / "ledger.db")
    secret = keys.add(connection, Key(b"", "canary", requests_per_min=1000))
    connection.close()
    serving = Serving(port=0, ledger_path=tmp_path / "ledger.db", log_level="debug", limits=TEST_LIMITS)
    server = start_server(tokenizer_directory, serving)
    server.wait_until(lambda: server.place.status().state == "ready")
    log = io.StringIO()
    logs.set_up("debug", log)
    yield server, secret, log
    stop_server(server)
    logs.set_up("error")


def test_no_key_and_no_word_of_a_prompt_is_logged_counted_or_kept(
    server: tuple[Server, str, io.StringIO]
) -> None:
    """Answered, streamed, refused, broken, failed in the middle, and with a key that is wrong, in every API."""
    running, secret, log = server
    refusals = []
    for path, body in BODIES.items():
        for headers in ({"x-api-key": secret}, {"authorization": f"Bearer {secret}"}):
            status, _, answer = running.send("POST", path, body, headers)
            assert status == 200, (path, answer)
        assert running.send("POST", path, body | {"stream": True}, {"x-api-key": secret})[0] == 200
        wrong = [(body, {"x-api-key": WRONG_KEY}), (b'{"model": "' + PROMPT.encode(), {"x-api-key": secret})]
        refusals += [running.send("POST", path, sent, headers) for sent, headers in wrong]
        running.engine.late_error = RuntimeError(f"{PROMPT} {secret}")
        refusals.append(running.send("POST", path, body, {"x-api-key": secret}))
        running.engine.late_error = None
    refusals.append(running.send("GET", f"/v1/models?key={secret}", headers={"x-api-key": WRONG_KEY}))
    assert all(status >= 400 for status, _, _ in refusals[::3])
    running.wait_until(lambda: running.ledger.stats().num_queued == 0)
    assert len(timelines_of(running.ledger.path, None, num_wanted=100)) >= 3 * len(BODIES)
    page = running.send("GET", "/metrics", headers={"x-api-key": secret})[2].decode()
    stored = b"".join(file.read_bytes() for file in running.ledger.path.parent.iterdir()).decode("latin-1")
    said = b"".join(answer for _, _, answer in refusals).decode()
    assert "request.failed" in log.getvalue(), "the log was not looked at"
    for where, text in {"log": log.getvalue(), "metrics": page, "ledger": stored, "errors": said}.items():
        for canary in (secret, secret[4:], WRONG_KEY, PROMPT):
            assert canary not in text, f"{canary} is in the {where}"


def test_an_unexpected_error_tells_the_caller_nothing_but_the_request_id(
    server: tuple[Server, str, io.StringIO]
) -> None:
    running, secret, _ = server
    running.engine.late_error = RuntimeError("/home/somebody/code.py at 0x7f00")
    for path, body in BODIES.items():
        status, headers, answer = running.send("POST", path, body, {"x-api-key": secret})
        assert status == 500 and headers["x-request-id"].encode() in answer
        assert b"0x7f00" not in answer and b"code.py" not in answer and b"RuntimeError" not in answer
