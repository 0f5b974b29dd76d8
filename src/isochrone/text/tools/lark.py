"""Grammars in llguidance's dialect of Lark, put together rule by rule."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from .format import Function

Marks: TypeAlias = Callable[[str], "int | None"]
"""The id of a control token; None when the vocabulary spells the mark with ordinary tokens."""

ANY_TEXT = r"/(?s:.*)/"
NO_ARGUMENTS = {"type": "object", "properties": {}, "additionalProperties": False}
_LISTING = {"$defs", "$schema", "definitions", "description", "properties", "required", "title", "type"}
_SPACING = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_DESCRIBING = ("title", "description", "default", "examples", "$comment", "deprecated", "readOnly", "writeOnly")
_NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems", "items")


class Lark:
    """A grammar being written: expressions refer to the rules that were added before.

    A control token is named by its id, which no text can spell; any other mark is a literal.
    """

    def __init__(self, marks: Marks = lambda mark: None) -> None:
        self._marks = marks
        self._rules: dict[str, str] = {}

    def rule(self, name: str, body: str, attributes: str = "") -> str:
        """Add a rule and give its name, with a number where the name is taken."""
        unique = name if name not in self._rules else f"{name}_{len(self._rules)}"
        self._rules[unique] = f"{unique}{attributes}: {body}"
        return unique

    def reserve(self, name: str) -> str:
        """The name of a rule that will refer to itself; `fill` gives it its body."""
        return self.rule(name, "")

    def fill(self, name: str, body: str) -> None:
        self._rules[name] = f"{name}: {body}"

    def terminal(self, name: str, body: str) -> None:
        """A terminal, which may be added again as it is."""
        self._rules[name] = f"{name}: {body}"

    def source(self, start: str) -> str:
        """The whole grammar, beginning with the expression `start`."""
        return "\n".join([f"start: {start}", *self._rules.values()])

    def mark(self, mark: str) -> str:
        id = self._marks(mark)
        return text(mark) if id is None else f"<[{id}]>"

    def through(self, mark: str) -> str:
        """Any text up to the first of these marks, and the mark."""
        if self._marks(mark) is not None:
            return f"{self.rule('words', ANY_TEXT)} {self.mark(mark)}"
        return self.rule("words", f"{ANY_TEXT} {text(mark)}", "[lazy]")

    def json(self, schema: dict[str, Any], *, lenient: bool = False) -> str:
        """A JSON value under this schema."""
        return self.rule("json", json_value(schema, lenient=lenient))

    def arguments(self, function: Function) -> str:
        """The JSON object of a tool's arguments.  A schema that is not strict may say what cannot be enforced."""
        return self.json(arguments_schema(function.parameters), lenient=not function.strict)


def arguments_schema(parameters: dict[str, Any] | None) -> dict[str, Any]:
    """What a call's arguments must be.  A function takes none that it does not name: a schema that only lists
    properties is closed, since a model that may go on inventing them seldom stops."""
    if parameters is None:
        return NO_ARGUMENTS
    named = parameters.get("properties")
    if not isinstance(named, dict) or not set(parameters) <= _LISTING:
        return {"type": "object"} | parameters
    is_closed = set(parameters.get("required") or ()) <= set(named)
    return {"type": "object"} | parameters | ({"additionalProperties": False} if is_closed else {})


def text(words: str) -> str:
    """A literal."""
    return json.dumps(words, ensure_ascii=False)


def regex(pattern: str) -> str:
    """A regular expression, of which a bare slash would be the end."""
    out, is_escaped = "", False
    for letter in pattern:
        out += "\\/" if letter == "/" and not is_escaped else "\\n" if letter == "\n" and not is_escaped else letter
        is_escaped = letter == "\\" and not is_escaped
    return f"/{out}/"


def json_value(schema: dict[str, Any] | bool, *, lenient: bool = False) -> str:
    """The expression of a JSON value under a schema, without white space that a model could run on in."""
    if isinstance(schema, bool):
        schema = {} if schema else {"not": {}}
    given = schema.get("x-guidance")
    spacing = _SPACING | {"lenient": lenient} | (given if isinstance(given, dict) and lenient else {})
    return f"%json {json.dumps(bare(schema) | {'x-guidance': spacing}, ensure_ascii=False)}"


def bare(schema: Any) -> Any:
    """A schema without the words that describe it: they bind nothing, and grammars have a size limit."""
    if not isinstance(schema, dict):
        return schema
    out: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _DESCRIBING:
            continue
        if key in _NAMED and isinstance(value, dict):
            out[key] = {name: bare(inner) for name, inner in value.items()}
        elif key in _LISTS and isinstance(value, list):
            out[key] = [bare(inner) for inner in value]
        else:
            out[key] = value if key in ("const", "enum") else bare(value)
    return out
