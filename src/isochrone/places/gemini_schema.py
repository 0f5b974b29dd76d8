"""A JSON schema in the subset of OpenAPI's schemas that older Gemini models are held to (`responseSchema`)."""

from __future__ import annotations

from typing import Any, NoReturn

from isochrone.errors import Unsupported

Json = dict[str, Any]
_SAME = (
    "format", "title", "description", "enum", "required", "minItems", "maxItems", "minimum", "maximum", "minLength",
    "maxLength", "pattern", "minProperties", "maxProperties", "default",
)  # fmt: skip
_LEFT_OUT = frozenset(("$schema", "$defs", "definitions", "$id", "$comment", "additionalProperties"))
"""`additionalProperties` has no word there: the model writes the properties that it is told."""
_DEPTH_MAX = 32


def to_openapi(schema: Json) -> Json:
    """Raises Unsupported for what that subset cannot say."""
    return _said(schema, schema, 0)


def _said(schema: Json, root: Json, depth: int) -> Json:
    if depth > _DEPTH_MAX:
        _refuse("is nested too deep, or refers to itself")
    schema = _resolved(schema, root)
    said: Json = {}
    for key, value in schema.items():
        if key in _SAME:
            said[key] = value
        elif key == "type":
            said |= _type(value)
        elif key == "properties":
            said[key] = {name: _said(inner, root, depth + 1) for name, inner in value.items()}
        elif key == "items" and isinstance(value, dict):
            said[key] = _said(value, root, depth + 1)
        elif key in ("anyOf", "oneOf"):
            said |= _any_of([_said(inner, root, depth + 1) for inner in value])
        elif key not in _LEFT_OUT:
            _refuse(f"uses {key}")
    return said


def _resolved(schema: Json, root: Json) -> Json:
    ref = schema.get("$ref")
    if ref is None:
        return schema
    at: Any = root
    for step in str(ref).removeprefix("#/").split("/"):
        at = at.get(step) if isinstance(at, dict) else None
    if not isinstance(at, dict):
        _refuse(f"refers to {ref}, which it does not hold")
    return {**at, **{key: value for key, value in schema.items() if key != "$ref"}}


def _type(value: Any) -> Json:
    if isinstance(value, str):
        return {"type": value.upper()}
    names = [name for name in value if name != "null"]
    nullable: Json = {"nullable": True} if "null" in value else {}
    if len(names) == 1:
        return {"type": names[0].upper()} | nullable
    return {"anyOf": [{"type": name.upper()} for name in names]} | nullable


def _any_of(options: list[Json]) -> Json:
    kept = [option for option in options if option.get("type") != "NULL"]
    nullable: Json = {"nullable": True} if len(kept) < len(options) else {}
    return (kept[0] if len(kept) == 1 else {"anyOf": kept}) | nullable


def _refuse(what: str) -> NoReturn:
    raise Unsupported(
        f"The JSON schema {what}, which this Gemini model cannot be held to (response_format).",
        fix="Ask a newer model, or write the schema in simpler words.",
    )
