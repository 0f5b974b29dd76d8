"""Fuzz the bodies of every API, through the gate, the face and back.

A place answers at once, so that each input goes the whole way: parsed, translated, answered, translated back.  The
server may refuse whatever it likes, in the API's own shape; it may not fail.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from functools import cache
from typing import Any, Literal

from tests.fuzz.target import Target

PATHS = {
    "openai_chat": ("/v1/chat/completions",),
    "openai_completions": ("/v1/completions",),
    "openai_responses": ("/v1/responses", "/v1/responses/input_tokens"),
    "anthropic_messages": ("/v1/messages", "/v1/messages/count_tokens"),
    "ollama": ("/api/chat", "/api/generate", "/api/show"),
}
MODULES = tuple(f"isochrone.gateway.{name}" for name in ("app", "validation"))


class EchoPlace:
    """Answers with two words, whatever was asked.  Fulfils `Place`."""

    name, location, continues = "echo", "local", "exactly"

    @property
    def price(self) -> Any:
        from isochrone.places.place import Price

        return Price()

    def status(self) -> Any:
        from isochrone.places.place import Model, Status

        return Status("ready", (Model("tiny", 512, 0),))

    async def complete(self, request: Any, deadline: Any) -> AsyncGenerator[Any, None]:
        from isochrone.places.place import Delta, Prompted, Timing

        yield Prompted(3)
        for index in range(request.n):
            yield Delta(index, "two ", 1)
            yield Delta(index, "words", 1, finish_reason="stop", timing=Timing(0.0, 0.0, 0.0))

    async def tokenize(self, prompt: Any) -> list[int]:
        return [1, 2, 3]

    async def detokenize(self, ids: list[int]) -> str:
        return "text"

    async def close(self) -> None:
        """Nothing is open."""


class NoLedger:
    """Takes everything and keeps nothing, so that an input's time is the face's own."""

    def __init__(self) -> None:
        self.responses = self.timelines = self.receipts = self

    def record(self, *facts: Any) -> bool:
        return True

    async def put(self, owner: str, id: str, body: bytes, ttl_s: float) -> None:
        json.loads(body)

    async def get(self, owner: str, id: str) -> Literal[None]:
        return None

    async def delete(self, owner: str, id: str) -> bool:
        return False


@cache
def _gateway() -> tuple[Any, asyncio.AbstractEventLoop]:
    from isochrone.gateway.access import Access
    from isochrone.gateway.app import Gateway

    return Gateway(EchoPlace(), Access("127.0.0.1"), NoLedger()), asyncio.new_event_loop()  # type: ignore[arg-type]


def post(path: str, body: bytes) -> tuple[int, dict[bytes, bytes], bytes]:
    """(status, headers, body) of one request to the gateway in this process."""
    gateway, loop = _gateway()
    said: list[Any] = []
    messages = [{"type": "http.request", "body": body}]

    async def receive() -> Any:
        if messages:
            return messages.pop()
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        said.append(message)

    scope = {"type": "http", "path": path, "method": "POST", "headers": [(b"host", b"localhost")]}
    loop.run_until_complete(gateway(scope, receive, send))
    assert gateway.num_in_flight == 0 and gateway.place.reserved_bytes == 0
    return said[0]["status"], dict(said[0]["headers"]), b"".join(message.get("body", b"") for message in said[1:])


def reader(paths: tuple[str, ...]) -> Any:
    """The `read` of a face: its first byte picks the path."""

    def read(content: bytes) -> None:
        path = paths[content[0] % len(paths)] if content else paths[0]
        status, headers, body = post(path, content[1:])
        assert status < 500 or status == 503, f"{path} answered {status}: {body[:300]!r}"
        if headers[b"content-type"] == b"application/json":
            json.loads(body)
        else:
            assert status == 200
            for line in body.split(b"\n"):
                if line.startswith((b"data: {", b"{")):
                    json.loads(line.removeprefix(b"data: "))

    return read


_CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
_TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
_SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
_SEEDS: dict[str, list[tuple[int, Any]]] = {
    "openai_chat": [
        (0, _CHAT | {"stream": True, "stream_options": {"include_usage": True}, "stop": ["x"], "seed": 1}),
        (0, _CHAT | {"tools": [_TOOL], "tool_choice": "auto", "logprobs": True, "top_logprobs": 2, "n": 2}),
        (0, _CHAT | {"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": _SCHEMA}}}),
    ],
    "openai_completions": [
        (0, {"model": "tiny", "prompt": ["a", "b"], "max_tokens": 2, "echo": True, "logprobs": 1}),
        (0, {"model": "tiny", "prompt": [1, 2], "stream": True, "temperature": 0.5, "logit_bias": {"3": 1}}),
    ],
    "openai_responses": [
        (0, {"model": "tiny", "input": "hi", "max_output_tokens": 2, "store": True, "stream": True}),
        (0, {"model": "tiny", "input": [{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}],
             "tools": [{"type": "function", "name": "f", "parameters": _SCHEMA}], "instructions": "be short"}),
        (1, {"model": "tiny", "input": "hi"}),
    ],
    "anthropic_messages": [
        (0, _CHAT | {"system": "be short", "stream": True, "stop_sequences": ["x"]}),
        (0, _CHAT | {"tools": [{"name": "f", "input_schema": _SCHEMA}], "tool_choice": {"type": "any"}}),
        (1, {"model": "tiny", "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]}),
    ],
    "ollama": [
        (0, {"model": "tiny", "messages": _CHAT["messages"], "options": {"num_predict": 2}, "format": "json"}),
        (1, {"model": "tiny", "prompt": "hi", "stream": False, "options": {"temperature": 0}}),
        (2, {"model": "tiny"}),
    ],
}  # fmt: skip


def seeds_of(name: str) -> list[bytes]:
    return [b"", *(bytes([which]) + json.dumps(body).encode() for which, body in _SEEDS[name])]


TARGETS = {
    name: Target(name, reader(paths), lambda name=name: seeds_of(name), MODULES)  # type: ignore[misc]
    for name, paths in PATHS.items()
}
