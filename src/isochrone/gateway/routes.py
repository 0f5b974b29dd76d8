"""Which handler answers which path, and how errors are said there.

A handler is named, and its face is imported with the first request to it: a server of one model starts without the APIs
that nobody asks it in.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

from isochrone.errors import NotFound
from isochrone.places.isochrone_wire import COMPLETE_PATH, STATUS_PATH

from .faults import OPENAI, Dialect

if TYPE_CHECKING:
    from .app import Gateway
    from .call import Call

Handler: TypeAlias = "Callable[[Gateway, Call], Coroutine[Any, Any, None]]"


def _at(module: str, name: str) -> Handler:
    """A handler of one of this room's files."""

    async def handle(gateway: Gateway, call: Call) -> None:
        await _load(module, name)(gateway, call)

    return handle


def _of_fleet(name: str) -> Handler:
    """A handler of a fleet's face."""

    async def handle(gateway: Gateway, call: Call) -> None:
        if gateway.fleet is None:
            raise NotFound(
                "This server has one model and chooses between nothing.",
                fix="Serve a fleet: isochrone up --fleet FILE.",
            )
        await _load("fleet_face", name)(gateway, call)

    return handle


def _load(module: str, name: str) -> Any:
    return getattr(import_module(f"{__package__}.{module}"), name)


ROUTES: dict[str, dict[str, Handler]] = {
    "/v1/chat/completions": {"POST": _at("openai_chat", "answer")},
    "/v1/completions": {"POST": _at("openai_completions", "answer")},
    "/v1/responses": {"POST": _at("openai_responses", "answer")},
    "/v1/responses/input_tokens": {"POST": _at("openai_responses", "count")},
    "/v1/messages": {"POST": _at("anthropic_messages", "answer")},
    "/v1/messages/count_tokens": {"POST": _at("anthropic_messages", "count_tokens")},
    "/v1/models": {"GET": _at("operations", "models")},
    "/api/chat": {"POST": _at("ollama", "chat")},
    "/api/generate": {"POST": _at("ollama", "generate")},
    "/api/tags": {"GET": _at("ollama", "tags")},
    "/api/show": {"POST": _at("ollama", "show")},
    "/api/ps": {"GET": _at("ollama", "ps")},
    "/api/version": {"GET": _at("ollama", "version")},
    COMPLETE_PATH: {"POST": _at("node", "complete")},
    STATUS_PATH: {"GET": _at("node", "status")},
    "/v1/route": {"POST": _of_fleet("route")},
    "/v1/places": {"GET": _of_fleet("places")},
    "/tokenize": {"POST": _at("tokens", "tokenize")},
    "/detokenize": {"POST": _at("tokens", "detokenize")},
    "/health": {"GET": _at("operations", "health")},
    "/livez": {"GET": _at("operations", "health")},
    "/ready": {"GET": _at("operations", "ready")},
    "/version": {"GET": _at("operations", "version")},
    "/metrics": {"GET": _at("operations", "metrics")},
    "/openapi.json": {"GET": _at("openapi", "describe")},
}
MODEL_ROUTE, EXPLAIN_ROUTE, FLEET_ROUTE = "/v1/models/{id}", "/v1/explain/{id}", "/v1/fleet/{action}"
RESPONSE_ROUTES: dict[str, dict[str, Handler]] = {
    "/v1/responses/{id}": {
        "GET": _at("openai_responses_stored", "retrieve"), "DELETE": _at("openai_responses_stored", "remove"),
    },
    "/v1/responses/{id}/cancel": {"POST": _at("openai_responses_stored", "cancel")},
    "/v1/responses/{id}/input_items": {"GET": _at("openai_responses_stored", "input_items")},
}  # fmt: skip
_MODEL, _EXPLAIN = {"GET": _at("operations", "model")}, {"GET": _of_fleet("explain")}
_DIALECTS = {"/v1/messages": "anthropic_messages", "/api/": "ollama", "/v1/node/": "node"}
"""Beginning of a path -> the file that says how errors are said there; OpenAI's way elsewhere.  One line a face."""


def find_route(path: str) -> tuple[str, dict[str, Handler] | None]:
    """(its name in the metrics, its handlers by method); `other` and None where there is nothing."""
    if path in ROUTES:
        return path, ROUTES[path]
    if path.startswith("/v1/fleet/"):
        return FLEET_ROUTE, None
    if path.startswith("/v1/explain/") and len(path) > len("/v1/explain/"):
        return EXPLAIN_ROUTE, _EXPLAIN
    if path.startswith("/v1/models/") and len(path) > len("/v1/models/"):
        return MODEL_ROUTE, _MODEL
    head, _, tail = path.removeprefix("/v1/responses/").partition("/")
    route = "/v1/responses/{id}" + (f"/{tail}" if tail else "")
    if path.startswith("/v1/responses/") and head and route in RESPONSE_ROUTES:
        return route, RESPONSE_ROUTES[route]
    return "other", None


def dialect_of(path: str) -> Dialect:
    """How errors are said there."""
    module = next((module for start, module in _DIALECTS.items() if path.startswith(start)), None)
    if module is None:
        return OPENAI
    dialect: Dialect = _load(module, "DIALECT")
    return dialect
