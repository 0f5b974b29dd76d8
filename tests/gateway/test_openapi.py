"""The description of the API is complete, and no request made from it brings the server to an error of its own."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from isochrone.budget import Budget, Deadline
from isochrone.engine.client import EngineClient
from isochrone.engine.records import EngineSpec
from isochrone.gateway.limits import Limits
from isochrone.gateway.openapi import OPERATIONS, document
from isochrone.gateway.routes import EXPLAIN_ROUTE, FLEET_ROUTE, MODEL_ROUTE, RESPONSE_ROUTES, ROUTES, find_route
from isochrone.gateway.serve import Serving
from isochrone.places.isochrone_wire import encode_asked
from isochrone.places.place import Request, Text
from tests.gateway.conftest import MODEL, Server, start_server, stop_server

DOCUMENT = document((MODEL,))
CHECKED = [not_a_server_error, content_type_conformance, status_code_conformance, response_schema_conformance]
LATE = {"budget_unreachable", "deadline_exceeded"}
"""What a caller hears who asked for a time that nobody can keep: an answer, and no error of the server."""


@pytest.fixture(scope="module")
def live(tokenizer_directory: Path) -> Iterator[Server]:
    """A server over a runtime that draws tokens from a hash: deterministic, without a model."""
    spec = EngineSpec(
        load="isochrone.testing.runtime:load_fake",
        tokens="isochrone.testing.runtime:load_fake_tokens",
        arguments={"vocab_size": 330, "context": 256, "num_pages": 64, "num_tokens_max": 128},
    )
    serving = Serving(port=0, log_level="critical", limits=Limits(body_bytes=1_000_000))
    server = start_server(tokenizer_directory, serving, lambda: EngineClient(spec))
    server.wait_until(lambda: server.place.status().state == "ready")
    yield server
    server.wait_until(lambda: server.engine.stats.num_running == server.engine.stats.num_waiting == 0)
    assert server.engine.num_restarts == 0
    stop_server(server)


def test_every_route_is_described_and_nothing_else() -> None:
    routes = {(path, method) for path, methods in (ROUTES | RESPONSE_ROUTES).items() for method in methods}
    beside = {(MODEL_ROUTE, "GET"), (EXPLAIN_ROUTE, "GET"), (FLEET_ROUTE, "POST")}
    assert {(one.path, one.method) for one in OPERATIONS} == routes | beside
    assert all(find_route(path.replace("{", "").replace("}", ""))[0] == path for path, _ in routes | beside)


def test_the_description_is_served_and_names_the_models(live: Server) -> None:
    status, _, body = live.send("GET", "/openapi.json")
    assert status == 200 and json.loads(body) == json.loads(json.dumps(DOCUMENT))
    assert DOCUMENT["components"]["schemas"]["OpenaiChatChatFields"]["properties"]["model"]["enum"] == [MODEL]


def test_the_description_is_valid_and_every_reference_leads_somewhere() -> None:
    schemathesis.openapi.from_dict(DOCUMENT).validate()
    schemas = DOCUMENT["components"]["schemas"]
    for name in references(DOCUMENT):
        assert name.removeprefix("#/components/schemas/") in schemas


def references(node: Any) -> Iterator[str]:
    if isinstance(node, list):
        for part in node:
            yield from references(part)
    elif isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        yield from (ref for ref in node.get("mapping", {}).values() if isinstance(ref, str) and ref.startswith("#"))
        for part in node.values():
            yield from references(part)


def is_late(response: Any) -> bool:
    return response.status_code in (503, 504, 529) and any(code in response.text for code in LATE)


NUM_CASES = int(os.environ.get("ISOCHRONE_TEST_CASES", "60"))
"""Requests for each route that has a body; more of them find more."""
ASKED = encode_asked(Request("r", MODEL, "t", Text("Hello"), max_tokens=4), Deadline.start(Budget(), 0.0), 0.0)
HELLO = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]}
PLAIN: dict[str, Any] = {
    "/v1/chat/completions": HELLO, "/v1/messages": HELLO, "/v1/messages/count_tokens": HELLO, "/api/chat": HELLO,
    "/v1/responses": {"model": MODEL, "input": "Hello"},
    "/v1/node/complete": json.loads(ASKED),
}
"""What a body needs to reach the fields beside it."""
LENGTHS = {
    "/v1/chat/completions": ("max_tokens",), "/v1/completions": ("max_tokens",), "/v1/messages": ("max_tokens",),
    "/v1/responses": ("max_output_tokens",),
}  # fmt: skip


def of_few_fields(body: dict[str, Any], kind: type[Any], kept: set[int]) -> dict[str, Any]:
    """A body with so few of its optional fields that it may be answered: among many, one is always wrong."""
    needed = {field.name for field in msgspec.structs.fields(kind) if field.required} | {"input", "prompt"}
    others = sorted(set(body) - needed)
    if not others:
        return body
    chosen = {others[at % len(others)] for at in kept}
    return {name: value for name, value in body.items() if name in needed | chosen}


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: f"{one.method} {one.path}")
def test_no_request_made_from_the_description_is_a_server_error(live: Server, operation: Any) -> None:
    described = schemathesis.openapi.from_dict(DOCUMENT)[operation.path][operation.method]
    made = [described.as_strategy(generation_mode=mode) for mode in schemathesis.GenerationMode]
    statuses: Counter[int] = Counter()

    @settings(
        max_examples=NUM_CASES if operation.body or operation.query else 10, deadline=None, derandomize=True,
        database=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate],
    )  # fmt: skip
    @given(st.one_of(made), st.booleans(), st.sets(st.integers(0, 99), max_size=3) | st.none())
    def ask(case: Any, is_there: bool, kept: set[int] | None) -> None:
        if isinstance(case.body, dict):
            if kept is not None:
                case.body = of_few_fields(case.body, operation.body, kept) | PLAIN.get(operation.path, {})
            case.body |= dict.fromkeys(LENGTHS.get(operation.path, ()), 4)  # many short answers fit into the time
        if operation.path.startswith("/v1/responses/{id}") and is_there:
            case.path_parameters["id"] = live.client().responses.create(model=MODEL, input="x", max_output_tokens=1).id
            if kept:  # an item that a page would begin after cannot be guessed
                case.query.pop("after", None)
        response = case.call(base_url=live.url)
        statuses[response.status_code] += 1
        if not is_late(response):
            case.validate_response(response, checks=CHECKED)

    ask()
    assert statuses[200] or operation.path in NEVER, statuses


NEVER = {
    "/v1/responses/{id}/cancel", "/v1/models/{id}", "/v1/route", "/v1/places", "/v1/explain/{id}", "/v1/fleet/{action}",
}  # fmt: skip
"""Answered only for what such requests cannot guess: a response that is being written, a model's name."""
