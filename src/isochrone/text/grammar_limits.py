"""What a grammar may be: checked before it is compiled; and the compiler's complaints in our words."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn

from isochrone.errors import BadGrammar

SOURCE_BYTES_MAX = 64 * 2**10
REGEX_BYTES_MAX = 4 * 2**10
DEPTH_MAX = 64
MULTIPLE_MAX = 10_000
"""The remainders are states of an automaton; several multiples in one schema may meet, so their common one counts."""

_SUBSCHEMAS = (
    "additionalProperties", "items", "additionalItems", "prefixItems", "anyOf", "oneOf", "allOf", "not", "if", "then",
    "else", "contains", "propertyNames", "unevaluatedItems", "unevaluatedProperties",
)  # fmt: skip
_NAMED_SUBSCHEMAS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")


def expect_bounded(kind: str, source: str) -> None:
    """Raises BadGrammar for a source that is too large, is no JSON, or would lead outside of itself."""
    if kind == "regex":
        _expect_size("The regular expression", source, REGEX_BYTES_MAX)
        return
    _expect_size("The JSON schema" if kind == "json_schema" else "The grammar", source, SOURCE_BYTES_MAX)
    if kind == "json_schema":
        _expect_schema(source)


def of_compiler(kind: str, message: str) -> BadGrammar:
    """What the compiler did not take, with the keyword's name where it is one."""
    message = _first_line(message)
    if found := re.search(r"Unimplemented keys: \[(.*)\]", message):
        keys = ", ".join(json.loads(f"[{found[1]}]"))
        return BadGrammar(
            f"The JSON schema uses {keys}, which cannot be enforced while the answer is drawn.",
            fix=f"Leave {keys} out of the schema, and check it on the answer.", keyword=keys,
        )  # fmt: skip
    if message.startswith("Unknown format: "):
        return BadGrammar(
            f'The JSON schema uses format "{message.removeprefix("Unknown format: ")}", which is not supported.',
            fix="Leave the format out, or say it as a pattern.", keyword="format",
        )  # fmt: skip
    if message.startswith("oneOf constraints"):
        return BadGrammar(
            "The JSON schema uses oneOf with branches that may both hold, which cannot be enforced.",
            fix="Use anyOf, or give each branch a property with its own const.", keyword="oneOf",
        )  # fmt: skip
    what = {"json_schema": "JSON schema", "regex": "regular expression", "lark": "grammar"}[kind]
    return BadGrammar(f"The {what} cannot be used: {message}.", fix=f"Correct or simplify the {what}.")


def of_step(message: str) -> BadGrammar:
    """Why an answer could not be followed any further."""
    return BadGrammar(
        f"The answer could not be followed through its grammar any further: {_first_line(message)}.",
        fix="Simplify the grammar: fewer alternatives at one place, fewer and smaller repetitions.",
    )


def _expect_size(what: str, source: str, most: int) -> None:
    num_bytes = len(source.encode("utf-8", "replace"))
    if num_bytes > most:
        raise BadGrammar(f"{what} has {num_bytes} bytes; at most {most} are taken.", fix="Send a smaller one.")


def _expect_schema(source: str) -> None:
    try:
        schema = json.loads(source, parse_constant=_no_constant, parse_float=Decimal)
        depth: float = _depth(schema)
    except RecursionError:
        depth = math.inf
    except ValueError as error:
        raise BadGrammar(f"The JSON schema is no JSON: {error}.", fix="Send a JSON object.") from error
    if depth > DEPTH_MAX:
        raise BadGrammar(f"The JSON schema is nested deeper than {DEPTH_MAX} levels.", fix="Flatten it.")
    if not isinstance(schema, dict):
        raise BadGrammar("The JSON schema is no object.", fix='Send an object such as {"type": "object"}.')
    multiples = []
    for part in _parts(schema):
        _expect_within_itself(part)
        if "multipleOf" in part:
            multiples.append(_decimal(part["multipleOf"]))
    _expect_multiples(multiples)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    return 1 + max(map(_depth, value), default=0) if isinstance(value, list) else 0


def _parts(schema: object) -> Iterator[Mapping[str, Any]]:
    """A schema and the schemas in it; never what stands under enum, const, default or examples."""
    if isinstance(schema, list):
        for item in schema:
            yield from _parts(item)
    if not isinstance(schema, dict):
        return
    yield schema
    for key in _SUBSCHEMAS:
        yield from _parts(schema.get(key))
    for key in _NAMED_SUBSCHEMAS:
        named = schema.get(key)
        if isinstance(named, dict):
            yield from _parts(list(named.values()))


def _expect_within_itself(part: Mapping[str, Any]) -> None:
    if "x-guidance" in part:
        raise BadGrammar(
            "The JSON schema uses x-guidance, which would change how it is read.", fix="Leave x-guidance out.",
            keyword="x-guidance",
        )  # fmt: skip
    reference = part.get("$ref")
    if reference is not None and not (isinstance(reference, str) and reference.startswith("#")):
        raise BadGrammar(
            f"The JSON schema refers by $ref to {json.dumps(reference, default=str)[:80]}; nothing is fetched from "
            "elsewhere.",
            fix="Put it under $defs and refer to #/$defs/NAME.", keyword="$ref",
        )  # fmt: skip


def _decimal(value: object) -> Decimal:
    try:
        number = Decimal(str(value)) if isinstance(value, int | Decimal) and not isinstance(value, bool) else Decimal(0)
    except InvalidOperation:
        number = Decimal(0)
    if not number > 0 or not -9 <= number.adjusted() <= 9 or -int(number.as_tuple().exponent) > 9:
        raise BadGrammar(
            f"multipleOf is {str(value)[:40]}; it must be a number from 1e-9 to 1e9.", fix="Correct it.",
            keyword="multipleOf",
        )  # fmt: skip
    return number


def _expect_multiples(multiples: list[Decimal]) -> None:
    if not multiples:
        return
    places = max(0, max(-int(m.normalize().as_tuple().exponent) for m in multiples))
    common = math.lcm(*(int(m.scaleb(places)) for m in multiples))
    if common > MULTIPLE_MAX:
        raise BadGrammar(
            f"The values of multipleOf have {common} as common multiple (in units of 1e-{places}); at most "
            f"{MULTIPLE_MAX} can be counted.",
            fix="Use smaller or fewer values of multipleOf.", keyword="multipleOf",
        )  # fmt: skip


def _first_line(message: str) -> str:
    lines = [line.strip() for line in message.splitlines() if line.strip() and not line.startswith("<")]
    reasons = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (reasons or lines or ["no reason given"])[0].rstrip(".")[:300]
