"""`GET /openapi.json`: every route with what it takes, made from the types that read the bodies.

What a body's type leaves open (a field that is refused, an item that is read on its own) is filled in from the same
tables that the server goes by, so that the description cannot say more than the server does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec

from isochrone import __version__
from isochrone.places.isochrone_wire import Asked

from . import anthropic_fields, ollama_fields, openai_chat, openai_completions, tokens
from . import openai_responses_fields as responses
from . import openai_responses_items as items
from . import openai_responses_tools as tools
from .call import Call
from .fields import Refusals

if TYPE_CHECKING:
    from .app import Gateway

Schema = dict[str, Any]
REF = "#/components/schemas/"
EVENTS, LINES, PAGE = "text/event-stream", "application/x-ndjson", "text/plain"


@dataclass(frozen=True, slots=True)
class Parameter:
    """In the query; every one may be left out."""

    name: str
    schema: Schema


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path.

    body     type of its body;  refused  fields of it that are taken only with values that ask for nothing
    streams  content type of its answer when the body asks for a stream
    gives    content type of its answer
    """

    path: str
    method: str
    summary: str
    body: type[Any] | None = None
    refused: Refusals | None = None
    streams: str | None = None
    gives: str = "application/json"
    query: tuple[Parameter, ...] = ()


_INCLUDE = Parameter("include", {"type": "array", "items": {"type": "string"}})
_PAGE = (
    Parameter("after", {"type": "string"}),
    Parameter("limit", {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}),
    Parameter("order", {"enum": ["asc", "desc"], "default": "desc"}),
)
OPERATIONS = (
    Operation("/v1/chat/completions", "POST", "Answer a conversation", openai_chat.ChatFields, openai_chat.REFUSED,
              EVENTS),
    Operation("/v1/completions", "POST", "Continue a text", openai_completions.CompletionFields,
              openai_completions.REFUSED, EVENTS),
    Operation("/v1/responses", "POST", "Answer, and keep the answer", responses.ResponseFields, responses.REFUSED,
              EVENTS),
    Operation("/v1/responses/input_tokens", "POST", "Count what a response would read", responses.ResponseFields,
              responses.REFUSED),
    Operation("/v1/responses/{id}", "GET", "A response", query=(_INCLUDE,)),
    Operation("/v1/responses/{id}", "DELETE", "Forget a response"),
    Operation("/v1/responses/{id}/cancel", "POST", "End a response that is being written"),
    Operation("/v1/responses/{id}/input_items", "GET", "What a response was given", query=(_INCLUDE, *_PAGE)),
    Operation("/v1/messages", "POST", "Answer a conversation, as Anthropic's API does", anthropic_fields.MessageFields,
              anthropic_fields.REFUSED, EVENTS),
    Operation("/v1/messages/count_tokens", "POST", "Count what a message would read", anthropic_fields.CountFields,
              anthropic_fields.COUNT_REFUSED),
    Operation("/v1/models", "GET", "The models served"),
    Operation("/v1/models/{id}", "GET", "A model"),
    Operation("/api/chat", "POST", "Answer a conversation, as Ollama does", ollama_fields.ChatFields,
              ollama_fields.REFUSED, LINES),
    Operation("/api/generate", "POST", "Continue a text, as Ollama does", ollama_fields.GenerateFields,
              ollama_fields.GENERATE_REFUSED, LINES),
    Operation("/api/tags", "GET", "The models served, as Ollama lists them"),
    Operation("/api/show", "POST", "A model, as Ollama shows it", ollama_fields.ShowFields),
    Operation("/api/ps", "GET", "The models in memory, as Ollama lists them"),
    Operation("/api/version", "GET", "The version, as Ollama says it"),
    Operation("/v1/node/complete", "POST", "Answer another gateway's request", Asked, gives=LINES),
    Operation("/v1/node/status", "GET", "What another gateway wants to know of this one"),
    Operation("/v1/route", "POST", "Where a chat would go now, and why", openai_chat.ChatFields,
              openai_chat.REFUSED),
    Operation("/v1/places", "GET", "The fleet's places"),
    Operation("/v1/explain/{id}", "GET", "Why a request of this caller went where it went"),
    Operation("/v1/fleet/{action}", "POST", "A node joins, drains or leaves, with the fleet's token"),
    Operation("/tokenize", "POST", "A text to tokens", tokens.TokenizeFields),
    Operation("/detokenize", "POST", "Tokens to a text", tokens.DetokenizeFields),
    Operation("/health", "GET", "Whether this process lives"),
    Operation("/livez", "GET", "Whether this process lives"),
    Operation("/ready", "GET", "Whether requests are taken"),
    Operation("/version", "GET", "The version"),
    Operation("/metrics", "GET", "Figures for Prometheus", gives=PAGE),
    Operation("/openapi.json", "GET", "This description"),
)  # fmt: skip
IN_PATHS: dict[str, Schema] = {
    "id": {"type": "string", "minLength": 1}, "action": {"enum": ["join", "drain", "leave"]},
}  # fmt: skip
ERRORS: dict[str, Schema] = {
    "Error": {
        "type": "object", "required": ["error"],
        "properties": {"error": {
            "type": "object", "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"}, "type": {"type": "string"}, "param": {"type": ["string", "null"]},
                "code": {"type": "string"},
            },
        }},
    },
    "AnthropicError": {
        "type": "object", "required": ["type", "error", "request_id"],
        "properties": {
            "type": {"const": "error"}, "request_id": {"type": "string"},
            "error": {
                "type": "object", "required": ["type", "message"],
                "properties": {"type": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
    "NodeError": {
        "type": "object", "required": ["fault"],
        "properties": {"fault": {
            "type": "object", "required": ["code", "message", "fix"],
            "properties": {"code": {"type": "string"}, "message": {"type": "string"}, "fix": {"type": "string"}},
        }},
    },
    "OllamaError": {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}},
}  # fmt: skip


async def describe(gateway: Gateway, call: Call) -> None:
    """Handle the route."""
    names = tuple(model.id for model in gateway.place.status().models)
    await call.respond(msgspec.json.encode(document(names)))


@cache
def document(models: tuple[str, ...]) -> Schema:
    """The whole description.  models  names that a body may give"""
    paths: dict[str, Schema] = {}
    schemas = _schemas()
    for name in {_name(operation.body) for operation in OPERATIONS if operation.body}:
        if "model" in schemas[name]["properties"]:
            schemas[name]["properties"]["model"] |= {"enum": list(models)}
            schemas[name]["properties"]["model"].pop("anyOf", None)
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Isochrone", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": schemas | ERRORS,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _described(operation: Operation) -> Schema:
    named = [
        {"name": name, "in": "path", "required": True, "schema": schema}
        for name, schema in IN_PATHS.items() if f"{{{name}}}" in operation.path
    ]  # fmt: skip
    query = [{"name": one.name, "in": "query", "schema": one.schema} for one in operation.query]
    fails = {"description": "What went wrong, and what to do", "content": {
        "application/json": {"schema": {"$ref": REF + _error_of(operation.path)}}
    }}  # fmt: skip
    given: Schema = {operation.gives: {"schema": {"type": "string"} if operation.gives == PAGE else {"type": "object"}}}
    if operation.streams:
        given[operation.streams] = {"schema": {"type": "string"}}
    described: Schema = {
        "summary": operation.summary,
        "operationId": operation.method.lower() + operation.path.translate({47: "_", 123: "", 125: ""}),  # / { }
        "parameters": [*named, *query],
        "responses": {"200": {"description": "The answer", "content": given}, "4XX": fails, "5XX": fails},
        "security": [] if operation.path in ("/health", "/livez", "/ready") else [{"key": []}, {}],
    }
    if operation.path == "/ready":
        state = {"type": "object", "required": ["status"], "properties": {"status": {"type": "string"}}}
        described["responses"]["503"] = {
            "description": "Why not", "content": {"application/json": {"schema": state}},
        }  # fmt: skip
    if operation.body is not None:
        schema = {"$ref": REF + _name(operation.body)}
        described["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return described


def _error_of(path: str) -> str:
    if path.startswith("/v1/messages"):
        return "AnthropicError"
    if path.startswith("/v1/node/"):
        return "NodeError"
    return "OllamaError" if path.startswith("/api/") else "Error"


def _name(kind: type[Any]) -> str:
    """A type's name in the description: two faces may have types of one name."""
    face = kind.__module__.rsplit(".", 1)[1].removesuffix("_fields").removesuffix("_messages")
    return "".join(part.capitalize() for part in face.split("_")) + kind.__name__


def _schemas() -> dict[str, Schema]:
    bodies = {operation.body: operation.refused or {} for operation in OPERATIONS if operation.body}
    parts = [*items.KINDS.values(), *tools.KINDS.values()]
    schemas: dict[str, Schema] = {}
    for kind in [*bodies, *parts]:
        schemas |= _schema(kind)
    for body, refused in bodies.items():
        fields = schemas[_name(body)]["properties"]
        for name, (neutral, _) in refused.items():
            fields[name] = {"enum": [None, *neutral], "description": "Refused: no other value is taken."}
    for schema in schemas.values():  # whatever is open is read only to be refused
        fields = schema.get("properties", {})
        fields |= {name: {"type": "null"} for name, field in fields.items() if not field}
    fields = schemas[_name(responses.ResponseFields)]["properties"]
    schemas[_name(responses.ResponseFields)]["required"].append("input")  # but with previous_response_id
    text, nothing = {"type": "string"}, {"type": "null"}
    fields["input"] = {"anyOf": [text, {"type": "array", "items": _any_of(items.KINDS.values()), "minItems": 1}]}
    fields["tools"] = {"anyOf": [
        {"type": "array", "items": _any_of(tools.KINDS.values()), "maxItems": 512}, nothing
    ]}  # fmt: skip
    return schemas


def _any_of(kinds: Iterable[type[Any]]) -> Schema:
    return {"anyOf": [{"$ref": REF + _name(kind)} for kind in kinds]}


def _schema(kind: type[Any]) -> dict[str, Schema]:
    """The schemas of a type and of all that it holds, under their names here."""
    _, found = msgspec.json.schema_components([kind], ref_template="{name}")
    names = {name: _name(kind) if name == kind.__name__ else _prefix(kind) + name for name in found}
    return {names[name]: _renamed(schema, names) for name, schema in found.items()}


def _prefix(kind: type[Any]) -> str:
    return _name(kind).removesuffix(kind.__name__)


def _renamed(schema: Any, names: dict[str, str]) -> Any:
    """The schema with its references under their names here."""
    if isinstance(schema, list):
        return [_renamed(part, names) for part in schema]
    if not isinstance(schema, dict):
        return schema
    renamed = {name: _renamed(part, names) for name, part in schema.items()}
    if isinstance(ref := schema.get("$ref"), str):
        renamed["$ref"] = REF + names[ref]
    if isinstance(mapping := schema.get("mapping"), dict) and "propertyName" in schema:
        renamed["mapping"] = {tag: REF + names[name] for tag, name in mapping.items()}
    return renamed
