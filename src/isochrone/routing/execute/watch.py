"""Waiting for the next item of a stream, with an end: one lazy timer for the whole stream, nothing per item."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
PAUSE_S_MIN = 1e-3
"""Between two looks: instants are not exact, and what is due in a nanosecond may as well be due then."""


class Silence(Exception):
    """The watch has ended a wait."""


class Watch:
    """Belongs to one stream.

    look  (seconds of silence) -> after how many more to look again; None: end the wait.  Asked only in silence
    """

    def __init__(self, clock: Callable[[], float], look: Callable[[float], float | None]) -> None:
        self._clock, self._look = clock, look
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[object] | None = None
        self._since = 0.0
        self._has_ended = False
        self._fault: Exception | None = None
        self._num_cancels = 0

    async def wait(self, item: Awaitable[T]) -> T:
        """The item.  Raises Silence when it takes too long, and whatever the stream or `look` raises."""
        task = self._task = asyncio.current_task()
        assert task is not None
        self._num_cancels = task.cancelling()
        self._since = self._clock()
        if self._timer is None:
            self._arm(self._look(0.0))
        try:
            return await item
        except asyncio.CancelledError:
            if self._has_ended and task.uncancel() <= self._num_cancels:
                raise (self._fault or Silence()) from None
            raise
        finally:
            self._task = None

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, seconds: float | None) -> None:
        self._timer = self._loop.call_later(max(PAUSE_S_MIN, seconds or 0.0), self._fire)

    def _fire(self) -> None:
        self._timer = None
        if self._task is None:
            return  # nobody waits: the next to wait sets it again
        try:
            more_s = self._look(self._clock() - self._since)
        except Exception as error:  # a timer has nobody to tell: whoever waits hears of it
            self._fault, more_s = error, None
        if more_s is not None:
            self._arm(more_s)
            return
        self._has_ended = True
        self._task.cancel()
