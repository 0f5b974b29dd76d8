"""The grammar of Gemma's arguments under a JSON schema: keys without quotes, texts between marks."""

from __future__ import annotations

import json
from typing import Any

from isochrone.errors import BadRequest

from .format import Function
from .lark import Lark, arguments_schema, text

_INTEGER = r"/-?(0|[1-9][0-9]{0,18})/"
_NUMBER = r"/-?(0|[1-9][0-9]{0,18})(\.[0-9]{1,17})?/"
_KNOWN = {
    "type", "properties", "required", "additionalProperties", "items", "enum", "const", "description", "title",
    "default", "examples", "$schema",
}  # fmt: skip


def object_rule(function: Function, quote: str, lark: Lark) -> str:
    """The Lark expression of a tool's arguments.  Raises BadRequest for a strict schema that cannot be kept."""
    return _Writer(function, quote, lark).value(arguments_schema(function.parameters))


class _Writer:
    def __init__(self, function: Function, quote: str, lark: Lark) -> None:
        self._function, self._quote, self._lark = function, quote, lark
        self._any: str | None = None

    def value(self, schema: Any) -> str:
        """One value: what the schema says as far as it is said in the words known here."""
        if not isinstance(schema, dict):
            return self._anything()
        unknown = sorted(set(schema) - _KNOWN)
        if unknown and self._function.strict:
            raise BadRequest(
                f"The strict schema of the tool {self._function.name} uses {unknown[0]}, which this model's form of "
                f"calls cannot be held to.",
                fix="Leave the keyword out, or do not ask for strict.", param="tools",
            )  # fmt: skip
        if "const" in schema:
            return self._literal(schema["const"])
        if "enum" in schema:
            return "(" + " | ".join(self._literal(value) for value in schema["enum"]) + ")"
        kinds = schema.get("type")
        if isinstance(kinds, list):
            return "(" + " | ".join(self.value(schema | {"type": kind}) for kind in kinds) + ")"
        match kinds:
            case "string":
                return self._text()
            case "integer":
                return _INTEGER
            case "number":
                return _NUMBER
            case "boolean":
                return '("true" | "false")'
            case "null":
                return '"null"'
            case "array":
                item = self._lark.rule("item", self.value(schema.get("items")))
                return f'"[" ({item} ("," {item})*)? "]"'
            case "object":
                return self._object(schema)
        return self._anything()

    def _object(self, schema: dict[str, Any]) -> str:
        properties: dict[str, Any] = schema.get("properties") or {}
        if not properties and schema.get("additionalProperties") is not False:
            return self._open_object()
        required = set(schema.get("required") or ())
        members = [
            (self._lark.rule("member", f"{text(key + ':')} {self.value(value)}"), key in required)
            for key, value in properties.items()
        ]
        return f'"{{" {self._lark.rule("members", _in_order(members))} "}}"' if members else '"{}"'

    def _text(self) -> str:
        quote = self._lark.mark(self._quote)
        return f"{quote} {self._lark.through(self._quote)}"

    def _literal(self, value: Any) -> str:
        if isinstance(value, str):
            quote = self._lark.mark(self._quote)
            return f"{quote} {text(value)} {quote}"
        return text(json.dumps(value))

    def _open_object(self) -> str:
        member = f'KEY ":" {self._anything()}'
        self._lark.terminal("KEY", r"/[A-Za-z_][A-Za-z0-9_]{0,63}/")
        name = self._lark.rule("pair", member)
        return f'"{{" ({name} ("," {name})*)? "}}"'

    def _anything(self) -> str:
        """Any value; a rule that refers to itself, written once."""
        if self._any is None:
            self._any = self._lark.reserve("anything")
            text_ = self._text()
            name = self._any
            self._lark.terminal("KEY", r"/[A-Za-z_][A-Za-z0-9_]{0,63}/")
            pair = self._lark.rule("pair", f'KEY ":" {name}')
            self._lark.fill(
                name,
                f'{text_} | {_NUMBER} | "true" | "false" | "null" | "[" ({name} ("," {name})*)? "]" '
                f'| "{{" ({pair} ("," {pair})*)? "}}"',
            )
        return self._any


def _in_order(members: list[tuple[str, bool]]) -> str:
    """The members in their order, commas between those that are there.

    Alternatives by which comes first; after it, each required one with its comma, and each other perhaps.
    """
    choices, is_optional = [], True
    for at, (first, must) in enumerate(members):
        rest = [f'"," {name}' if needed else f'("," {name})?' for name, needed in members[at + 1 :]]
        choices.append(" ".join([first, *rest]))
        if must:
            is_optional = False
            break
    whole = " | ".join(choices)
    return f"({whole})?" if is_optional else whole
