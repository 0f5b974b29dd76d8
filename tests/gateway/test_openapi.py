"""The description of the API is complete, and no request made from it brings the server to an error of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import CHECKS

from isochrone.engine.client import EngineClient
from isochrone.engine.records import EngineSpec
from isochrone.gateway.app import MODEL_ROUTE, RESPONSE_ROUTES, ROUTES
from isochrone.gateway.limits import Limits
from isochrone.gateway.openapi import OPERATIONS, document
from isochrone.gateway.serve import Serving
from tests.gateway.conftest import MODEL, Server, start_server, stop_server

DOCUMENT = document((MODEL,))
CHECKED = CHECKS.get_by_names(["not_a_server_error", "content_type_conformance", "status_code_conformance",
                               "response_schema_conformance"])  # fmt: skip
LATE = {"budget_unreachable", "deadline_exceeded"}
"""What a caller hears who asked for a time that nobody can keep: an answer, and no error of the server."""


@pytest.fixture(scope="module")
def live(tokenizer_directory: Path) -> Iterator[Server]:
    """A server over a runtime that draws tokens from a hash: deterministic, without a model."""
    spec = EngineSpec(
        load="isochrone.testing.runtime:load_fake",
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
    assert {(one.path, one.method) for one in OPERATIONS} == routes | {(MODEL_ROUTE, "GET")}


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
    said = response.json().get("error", {})
    return response.status_code in (503, 504, 529) and isinstance(said, dict) and said.get("code") in LATE


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: f"{one.method} {one.path}")
def test_no_request_made_from_the_description_is_a_server_error(live: Server, operation: Any) -> None:
    schema = schemathesis.openapi.from_dict(DOCUMENT)
    described = schema[operation.path][operation.method]
    cases = [described.as_strategy(generation_mode=mode) for mode in schemathesis.GenerationMode]

    @settings(
        max_examples=40 if operation.body else 5, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck), phases=[Phase.generate],
    )  # fmt: skip
    @given(st.one_of(*cases))
    def ask(case: Any) -> None:
        if isinstance(case.body, dict):  # answers of a few tokens, so that many fit into the test's time
            case.body |= dict.fromkeys(LENGTHS.get(operation.path, ()), 4)
        response = case.call(base_url=live.url)
        if not is_late(response):
            case.validate_response(response, checks=CHECKED)

    ask()


LENGTHS = {
    "/v1/chat/completions": ("max_tokens",), "/v1/completions": ("max_tokens",), "/v1/messages": ("max_tokens",),
    "/v1/responses": ("max_output_tokens",),
}  # fmt: skip
