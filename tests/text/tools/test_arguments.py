"""A call's arguments: a function takes none that it does not name, whatever else its schema leaves open."""

from __future__ import annotations

from typing import Any

import pytest

from isochrone.text.tools.lark import NO_ARGUMENTS, arguments_schema

CITY = {"city": {"type": "string"}}


def test_a_schema_that_lists_properties_is_closed() -> None:
    given = {"properties": CITY, "required": ["city"], "description": "d"}
    assert arguments_schema(given) == given | {"type": "object", "additionalProperties": False}
    assert arguments_schema(None) == NO_ARGUMENTS


@pytest.mark.parametrize(
    "given",
    [
        {"properties": CITY, "additionalProperties": {"type": "integer"}},
        {"properties": CITY, "patternProperties": {"^x": {}}},
        {"properties": CITY, "anyOf": [{"required": ["day"]}]},
        {"properties": CITY, "required": ["day"]},
        {"$ref": "#/$defs/a", "$defs": {"a": {"properties": CITY}}},
        {},
    ],
)
def test_a_schema_that_says_more_is_taken_at_its_word(given: dict[str, Any]) -> None:
    assert arguments_schema(given) == {"type": "object"} | given
