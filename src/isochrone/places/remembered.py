"""What a model wants back with a call that it made.

Clients of OpenAI's protocol have no field for a model's signatures, so the place that got them keeps them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Remembered(Generic[Key, Value]):
    """At most `num_max` values; the one that was asked for longest ago gives way."""

    def __init__(self, num_max: int) -> None:
        self._num_max = num_max
        self._held: OrderedDict[Key, Value] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: Key) -> Value | None:
        value = self._held.get(key)
        if value is not None:
            self._held.move_to_end(key)
        return value

    def put(self, key: Key, value: Value) -> None:
        self._held[key] = value
        self._held.move_to_end(key)
        while len(self._held) > self._num_max:
            self._held.popitem(last=False)
