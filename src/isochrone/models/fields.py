"""Typed reading of what a checkpoint says about itself; every breach names the key and what was found."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import BadModel


class Fields:
    """A mapping whose values are trusted with nothing, not even their type.

    source  how errors name it: "config.json", "the GGUF metadata"
    """

    def __init__(self, values: Mapping[str, Any], source: str, prefix: str = "") -> None:
        self._values = values
        self.source = source
        self._prefix = prefix

    def under(self, key: str) -> Fields:
        """The mapping inside a key; empty where it is absent or null."""
        value = self._values.get(self._prefix + key)
        if value is None:
            return Fields({}, f"{key} of {self.source}")
        if not isinstance(value, Mapping):
            raise self._wrong(key, value, "a mapping")
        return Fields(value, f"{key} of {self.source}")

    def has_nested(self) -> bool:
        """Whether any value is a mapping itself."""
        return any(isinstance(value, Mapping) for value in self._values.values())

    def has(self, key: str) -> bool:
        """Whether the key is there and not null."""
        return self._values.get(self._prefix + key) is not None

    def integer(self, key: str, default: int | None = None) -> int:
        """A whole number."""
        value = self._value(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or abs(value) > _WHOLE_MAX:
            raise self._wrong(key, value, "a whole number")
        return int(value)

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number."""
        value = self._value(key, default)
        if not _is_number(value):
            raise self._wrong(key, value, "a finite number")
        return float(value)

    def text(self, key: str, default: str | None = None) -> str:
        """A string."""
        value = self._value(key, default)
        if not isinstance(value, str):
            raise self._wrong(key, value, "a string")
        return value

    def truth(self, key: str, default: bool) -> bool:
        """A truth value."""
        value = self._value(key, default)
        if not isinstance(value, bool):
            raise self._wrong(key, value, "true or false")
        return value

    def numbers(self, key: str) -> tuple[float, ...]:
        """A list of finite numbers."""
        value = self._value(key, None)
        if not isinstance(value, list | tuple) or len(value) > 1 << 16:
            raise self._wrong(key, value, "a list of numbers")
        if not all(map(_is_number, value)):
            raise self._wrong(key, value, "a list of finite numbers")
        return tuple(map(float, value))

    def texts(self, key: str, count: int) -> tuple[str, ...]:
        """A list of exactly `count` strings."""
        value = self._value(key, None)
        if not isinstance(value, list | tuple) or len(value) != count or not all(isinstance(v, str) for v in value):
            raise self._wrong(key, value, f"a list of {count} strings")
        return tuple(value)

    def per_layer(self, key: str, num_layers: int, default: int | None = None) -> int:
        """A whole number that may be given once or for each layer, but must be the same for all."""
        value = self._value(key, default)
        if isinstance(value, list | tuple):
            if len(value) != num_layers or any(v != value[0] for v in value):
                raise self._wrong(key, value, "the same number for every layer")
            return Fields({key: value[0]}, self.source).integer(key)
        return self.integer(key, default)

    def _value(self, key: str, default: Any) -> Any:
        value = self._values.get(self._prefix + key)
        if isinstance(value, np.ndarray):  # arrays of numbers in GGUF
            value = value.tolist()
        if value is None:
            value = default
        if value is None:
            raise BadModel(f"{self.source} does not say {self._prefix}{key}.", fix=FIX)
        return value

    def _wrong(self, key: str, value: object, wanted: str) -> BadModel:
        shown = reprlib.repr(value)
        return BadModel(f"{self.source} says {self._prefix}{key} is {shown}, not {wanted}.", fix=FIX)


_WHOLE_MAX = 1 << 53


def _is_number(value: object) -> bool:
    """Whether this is a number that a float can hold exactly enough."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= _WHOLE_MAX if isinstance(value, int) else math.isfinite(value)


FIX = "Fetch the checkpoint again; if it stays so, the file was made for another program."
