"""Several answers at once: all of each, in order; the first error ends all; closing closes all."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.places.merge import merge


class Streams:
    def __init__(self) -> None:
        self.num_open = 0

    async def of(self, items: list[int], error: Exception | None = None) -> AsyncGenerator[int, None]:
        self.num_open += 1
        try:
            for item in items:
                yield item
            if error is not None:
                raise error
        finally:
            self.num_open -= 1


@given(st.lists(st.lists(st.integers(), max_size=100), min_size=1, max_size=5))
async def test_each_stream_comes_whole_and_in_its_order(parts: list[list[int]]) -> None:
    streams = Streams()
    got: list[list[int]] = [[] for _ in parts]
    async for index, item in merge([streams.of(items) for items in parts]):
        got[index].append(item)
    assert got == parts and streams.num_open == 0


@pytest.mark.parametrize("num_streams", [1, 3])
async def test_an_error_of_one_ends_all_and_is_raised(num_streams: int) -> None:
    streams = Streams()
    parts = [streams.of([1] * 5, ValueError("mine")), *(streams.of([1] * 500) for _ in range(num_streams - 1))]
    with pytest.raises(ValueError, match="mine"):
        async for _ in merge(parts):
            pass
    assert streams.num_open == 0


@pytest.mark.parametrize("num_streams", [1, 3])
async def test_closing_early_closes_every_stream(num_streams: int) -> None:
    streams = Streams()
    async with aclosing(merge([streams.of([1] * 500) for _ in range(num_streams)])) as merged:
        async for _ in merged:
            break
    assert streams.num_open == 0
