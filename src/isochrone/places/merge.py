"""Several answers at once, in the order in which their parts come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TypeVar

T = TypeVar("T")
NUM_QUEUED_MAX = 64
"""Parts that may wait for a slow reader; then the streams wait too."""


async def merge(streams: Sequence[AsyncGenerator[T, None]]) -> AsyncGenerator[tuple[int, T], None]:
    """(which stream, its next item), until all are done.  The first error of a stream ends all of them and is raised.

    Closing this closes every stream.
    """
    if len(streams) == 1:
        async with aclosing(streams[0]) as stream:
            async for item in stream:
                yield 0, item
        return
    queue: asyncio.Queue[tuple[int, T] | Exception | None] = asyncio.Queue(NUM_QUEUED_MAX)
    pumps = [asyncio.ensure_future(_pump(index, stream, queue)) for index, stream in enumerate(streams)]
    try:
        num_open = len(pumps)
        while num_open:
            part = await queue.get()
            if isinstance(part, Exception):
                raise part
            if part is None:
                num_open -= 1
            else:
                yield part
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


async def _pump(
    index: int, stream: AsyncGenerator[T, None], queue: asyncio.Queue[tuple[int, T] | Exception | None]
) -> None:
    try:
        async with aclosing(stream):
            async for item in stream:
                await queue.put((index, item))
    except Exception as error:  # it is the reader's to raise
        await queue.put(error)
    else:
        await queue.put(None)
