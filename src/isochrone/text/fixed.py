"""Lists and dictionaries that a chat template can read but not change.

minijinja calls the methods of Python's own objects: with plain lists, a template could change the caller's messages, or
double a list by `messages.extend(messages)`, for which no fuel is charged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from isochrone.errors import BadModel


def _refuse(*_: object, **__: object) -> NoReturn:
    raise BadModel(
        "The model's chat template changes a list or an object it was given, which it may only read.",
        fix="Use /v1/completions with a prompt of your own, or another copy of the model.",
    )


class FixedList(list[Any]):
    """Reads as a list."""

    append = extend = insert = pop = remove = clear = sort = reverse = copy = _refuse


class FixedDict(dict[str, Any]):
    """Reads as a dictionary."""

    pop = popitem = update = setdefault = clear = copy = _refuse
    fromkeys = _refuse


def fixed(value: Any) -> Any:
    """The same value, all the way down, in containers that do not change. Raises RecursionError past Python's depth."""
    if isinstance(value, Mapping):
        return FixedDict((str(key), fixed(item)) for key, item in value.items())
    if isinstance(value, list | tuple):
        return FixedList(fixed(item) for item in value)
    return value
