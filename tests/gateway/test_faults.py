"""When the engine fails, hangs, dies or never loads, the caller gets a typed error: never a reset, never silence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

from isochrone.errors import BadModel, DeadlineExceeded, EngineDied, IsochroneError, Overloaded, SequenceFailed
from isochrone.gateway.serve import Serving
from tests.gateway.conftest import MODEL, Server, start_server
from tests.gateway.scripted import ScriptedEngine

CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "The quick"}], "max_tokens": 20}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (DeadlineExceeded("Too late.", fix="Allow more."), 504),
        (Overloaded("The queue is full.", fix="Ask later.", retry_after_s=2.6), 503),
        (EngineDied("The engine died three times.", fix="See its log."), 502),
        (SequenceFailed("Numbers are not finite.", fix="Report it."), 500),
    ],
)
def test_an_error_before_the_first_token_is_a_status(
    server: Server, error: IsochroneError, status: int, stream: bool
) -> None:
    server.engine.error = error
    got, headers, body = server.send("POST", "/v1/chat/completions", CHAT | {"stream": stream})
    said = json.loads(body)["error"]
    assert (got, said["code"], said["message"]) == (status, error.code, str(error))
    assert headers["content-type"] == "application/json"
    assert headers.get("retry-after") == ("3" if status == 503 else None)


def test_an_error_in_mid_stream_is_an_event_that_the_sdk_raises(server: Server, client: OpenAI) -> None:
    server.engine.late_error = EngineDied("The engine died three times.", fix="See its log.")
    stream = client.chat.completions.create(**CHAT, stream=True)
    texts = []
    with pytest.raises(openai.APIError, match="died three times"):
        for chunk in stream:
            texts.append(chunk.choices[0].delta.content or "")
    assert "".join(texts)


def test_a_mistake_of_ours_ends_at_its_request_and_tells_nothing_of_the_inside(server: Server) -> None:
    server.engine.error = RuntimeError("secret at 0xdeadbeef in /home")  # type: ignore[assignment]
    status, _, body = server.send("POST", "/v1/chat/completions", CHAT, {"x-request-id": "find-me"})
    said = json.loads(body)["error"]
    assert status == 500 and "find-me" in said["message"] and "secret" not in body.decode()
    server.engine.error = None
    assert server.send("POST", "/v1/chat/completions", CHAT)[0] == 200


def test_one_failed_prompt_of_several_fails_the_request_and_frees_the_others(server: Server) -> None:
    server.engine.late_error = SequenceFailed("Numbers are not finite.", fix="Report it.")
    body = {"model": MODEL, "prompt": ["The", "quick", "fox"], "max_tokens": 20}
    assert server.send("POST", "/v1/completions", body)[0] == 500
    server.wait_until(lambda: server.engine.num_open == 0)


@pytest.mark.parametrize("stream", [True, False])
def test_an_engine_that_hangs_past_the_deadline_is_a_504(server: Server, stream: bool) -> None:
    server.call(server.engine.gate.clear)
    status, _, body = server.send("POST", "/v1/chat/completions", CHAT | {"stream": stream}, {"x-deadline-ms": "30"})
    assert (status, json.loads(body)["error"]["code"]) == (504, "deadline_exceeded")


@pytest.mark.parametrize("value", ["0", "-5", "1.5", "soon", "", "999999999999"])
def test_a_deadline_that_is_no_time_is_refused(server: Server, value: str) -> None:
    status, _, body = server.send("POST", "/v1/chat/completions", CHAT, {"x-deadline-ms": value})
    assert (status, json.loads(body)["error"]["param"]) == (400, "x-deadline-ms")


def test_a_model_that_cannot_be_loaded_ends_the_server_with_its_reason(
    tokenizer_directory: Path, wait_for: Callable[[Callable[[], bool]], None]
) -> None:
    error = BadModel("The file is cut off.", fix="Pull it again.")
    server = start_server(
        tokenizer_directory, Serving(port=0, log_level="critical"), lambda: ScriptedEngine(load_error=error)
    )
    wait_for(lambda: bool(server.errors))
    assert server.errors == [error] and server.engine.closed.is_set()
