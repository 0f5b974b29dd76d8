"""A JSON schema in the subset of OpenAPI's schemas that older Gemini models are held to (`responseSchema`).

The subset is google-genai's `types.Schema` (3.6.1), and what its own conversion says of the same schema is what is said
here.  A word that the subset lacks is refused, unless it says nothing of what fits.
"""

from __future__ import annotations

from typing import Any, NoReturn

from isochrone.errors import Unsupported

Json = dict[str, Any]
_SAME = (
    "format", "title", "description", "required", "minItems", "maxItems", "minimum", "maximum", "minLength",
    "maxLength", "pattern", "minProperties", "maxProperties", "default", "propertyOrdering",
)  # fmt: skip
_SAYS_NOTHING = frozenset(
    ("$schema", "$defs", "definitions", "$id", "$comment", "examples", "deprecated", "readOnly", "writeOnly")
)
"""Of what fits."""
_NOTES = frozenset(("title", "description", "default", "nullable"))
_TYPES = frozenset(("string", "number", "integer", "boolean", "array", "object", "null"))
_DEPTH_MAX, _NUM_MAX = 32, 5000


def to_openapi(schema: Json, *, is_vertex: bool = False) -> Json:
    """Raises Unsupported for what that subset cannot say.

    is_vertex  the schema of further properties can be said to Vertex AI; to the Gemini API only that there are none
    """
    return _Teller(schema, is_vertex).said(schema, 0)


class _Teller:
    def __init__(self, root: Json, is_vertex: bool) -> None:
        self._root, self._is_vertex = root, is_vertex
        self._num_said = 0

    def said(self, schema: Any, depth: int) -> Json:
        self._num_said += 1
        if depth > _DEPTH_MAX or self._num_said > _NUM_MAX:
            _refuse("is nested too deep, or refers to itself")
        schema = self._resolved(schema)
        said: Json = {}
        for key, value in schema.items():
            if key not in _SAYS_NOTHING:
                _join(said, self._of(key, value, depth + 1))
        properties = said.get("properties", {})
        if len(properties) > 1:
            said.setdefault("propertyOrdering", list(properties))
        return said

    def _of(self, key: str, value: Any, depth: int) -> Json:
        if key in _SAME:
            return {key: value}
        match key:
            case "type":
                return _type(value)
            case "enum":
                return {"enum": _texts(value)}
            case "const":
                return {"enum": _texts([value])}
            case "properties" if isinstance(value, dict):
                return {"properties": {name: self.said(inner, depth) for name, inner in value.items()}}
            case "items" if isinstance(value, dict):
                return {"items": self.said(value, depth)}
            case "anyOf" | "oneOf" if isinstance(value, list):
                options = [self.said(inner, depth) for inner in value]
                if key == "oneOf" and not _are_apart(options):
                    _refuse("uses oneOf for options that may fit at once")
                return _any_of(options)
            case "additionalProperties":
                return {"additionalProperties": self._further(value, depth)}
        _refuse(f"uses {key}")

    def _further(self, value: Any, depth: int) -> bool | Json:
        if value is False:
            return False
        if not self._is_vertex:
            _refuse("has additionalProperties, which the Gemini API takes only as false,")
        return True if value is True else self.said(value, depth)

    def _resolved(self, schema: Any) -> Json:
        for _ in range(_DEPTH_MAX):
            if not isinstance(schema, dict):
                _refuse(f"holds {schema!r} where a schema should be")
            ref = schema.get("$ref")
            if ref is None:
                return schema
            schema = {**self._at(str(ref)), **{key: value for key, value in schema.items() if key != "$ref"}}
        _refuse("is nested too deep, or refers to itself")

    def _at(self, ref: str) -> Json:
        at: Any = self._root if ref.startswith("#/") else None
        for step in ref.removeprefix("#/").split("/"):
            step = step.replace("~1", "/").replace("~0", "~")
            at = at.get(step) if isinstance(at, dict) else None
        if not isinstance(at, dict):
            _refuse(f"refers to {ref}, which it does not hold")
        return at


def _type(value: Any) -> Json:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not names or not all(isinstance(n, str) and n in _TYPES for n in names):
        _refuse(f"has the type {value!r}")
    return _any_of([{"type": name.upper()} for name in names])


def _any_of(options: list[Json]) -> Json:
    """One of the options; null is no option there but a mark."""
    kept = [option for option in options if option.get("type") != "NULL"]
    if not kept:
        return {"type": "NULL"}
    nullable: Json = {"nullable": True} if len(kept) < len(options) else {}
    return (kept[0] if len(kept) == 1 else {"anyOf": kept}) | nullable


def _join(said: Json, more: Json) -> None:
    """Both hold, so that what both say of the same must be the same; notes are the outer schema's."""
    for key, value in more.items():
        if key in said and said[key] != value and key not in _NOTES:
            _refuse(f"says two things of {key}")
        if key == "nullable" or key not in said:
            said[key] = value


def _are_apart(options: list[Json]) -> bool:
    """No value fits two of them, by their types alone."""
    types = [str(option.get("type")) for option in options]
    numbers = {"NUMBER", "INTEGER"} <= set(types)
    return "None" not in types and len(set(types)) == len(types) and not numbers and not any(
        option.get("nullable") for option in options
    )  # fmt: skip


def _texts(values: Any) -> list[str]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        _refuse("lists values that are no texts")
    return list(values)


def _refuse(what: str) -> NoReturn:
    raise Unsupported(
        f"The JSON schema {what}, which this Gemini model cannot be held to (response_format).",
        fix="Ask a newer model, or write the schema in simpler words.",
    )
