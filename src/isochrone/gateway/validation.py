"""What msgspec found wrong in a body, as a sentence that names the field.  Loaded when the first such body comes."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

import msgspec

from isochrone.errors import BadRequest


def from_validation(error: Exception, known: Iterable[str]) -> BadRequest:
    """A sentence for what msgspec found wrong in a body.  known  the fields that the request has"""
    if isinstance(error, RecursionError):
        return BadRequest("The body is nested too deeply.", fix="Send flat JSON, as the API describes.")
    if isinstance(error, UnicodeDecodeError):
        return BadRequest("The body is not UTF-8.", fix="Encode the JSON as UTF-8.")
    found = _WHERE.match(str(error))
    text = found["text"] if found else str(error)
    if not isinstance(error, msgspec.ValidationError):
        return BadRequest(f"The body is not JSON: {text.removeprefix('JSON is malformed: ')}.", fix="Send valid JSON.")
    param = (found["path"].lstrip(".") if found else "") or None
    if found and found["key"]:
        return BadRequest(f"{param} has a key that cannot be one of its own.", fix="Correct the key.", param=param)
    return _explain(text, param, list(known))


_WHERE = re.compile(r"(?P<text>.*) - at (?P<key>`key` in )?`\$(?P<path>.*)`$", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`$", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`$")
_TYPE = re.compile(r"Expected `(.+)`, got `(.+)`$")
_LENGTH = re.compile(r"Expected `(\w+)` of length (>=|<=) (\d+)$")
_RANGE = re.compile(r"Expected `\w+` (>=|<=|>|<) (-?[\d.e+-]+)$")
_VALUE = re.compile(r"Invalid (?:enum )?value (.*)$", re.DOTALL)
_WORDS = {
    "int": "a whole number", "float": "a number", "str": "a text", "bool": "true or false", "array": "a list",
    "object": "an object", "null": "null",
}  # fmt: skip
_BOUNDS = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than"}


def _explain(text: str, param: str | None, known: list[str]) -> BadRequest:
    named = param or "The body"
    if found := _UNKNOWN.match(text):
        field = f"{param}.{found[1]}" if param else found[1]
        near = difflib.get_close_matches(found[1], known, n=1)
        fix = f"Did you mean {near[0]}?" if near and not param else "Remove it, or correct its name."
        return BadRequest(f"There is no field {field[:80]!r}.", fix=fix, param=field[:80])
    if found := _MISSING.match(text):
        field = f"{param}.{found[1]}" if param else found[1]
        return BadRequest(f"The field {field} is missing.", fix="Add it.", param=field)
    if found := _TYPE.match(text):
        wanted = " or ".join(_WORDS.get(kind, kind) for kind in found[1].split(" | ") if kind != "null")
        got = _WORDS.get(found[2], found[2])
        return BadRequest(f"{named} must be {wanted}, but it is {got}.", fix=f"Send {wanted}.", param=param)
    if found := _LENGTH.match(text):
        unit = ("character" if found[1] == "str" else "item") + ("" if found[3] == "1" else "s")
        bound = f"{_BOUNDS[found[2]]} {found[3]} {unit}"
        return BadRequest(f"{named} must have {bound}.", fix=f"Send {bound}.", param=param)
    if found := _RANGE.match(text):
        bound = f"{_BOUNDS[found[1]]} {found[2].removesuffix('.0')}"
        return BadRequest(f"{named} must be {bound}.", fix=f"Send a value of {bound}.", param=param)
    if found := _VALUE.match(text):
        return BadRequest(
            f"{named} cannot be {found[1][:80]}.",
            fix="Send one of the values that the API reference lists.",
            param=param,
        )
    return BadRequest(f"{named}: {text}.", fix="Correct it as the API reference describes.", param=param)
