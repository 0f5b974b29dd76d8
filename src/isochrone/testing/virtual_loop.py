"""Asyncio on a clock that jumps: timers fire in their order and at their instants, and no test waits for them.

    run(coroutine)   as `asyncio.run`, hours in milliseconds; a task that is left over is an error
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
START_AT = 1000.0


class Deadlock(RuntimeError):
    """Everything waits, and nothing is due: on a real clock this would hang."""


class _Selector(selectors.DefaultSelector):
    """Instead of waiting for so many seconds, says that they have passed."""

    pass_s: Callable[[float], None]

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready: list[tuple[selectors.SelectorKey, int]] = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise Deadlock("Every task waits, and no timer is set.")
        self.pass_s(timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose `time` moves only when nothing else is left to do.  No threads: they need real time."""

    def __init__(self) -> None:
        self._now = START_AT
        selector = _Selector()
        selector.pass_s = self._pass
        super().__init__(selector)

    def time(self) -> float:
        return self._now

    def _pass(self, seconds: float) -> None:
        self._now += seconds


def run(main: Coroutine[Any, Any, T]) -> T:
    """Its result.  Raises AssertionError when it leaves a task behind."""

    async def watched() -> tuple[T, list[str]]:
        result = await main
        return result, [repr(task) for task in asyncio.all_tasks() if task is not asyncio.current_task()]

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        result, left = runner.run(watched())
    assert not left, f"left behind: {left}"
    return result


def now() -> float:
    """The running loop's clock, for whoever takes a clock."""
    return asyncio.get_running_loop().time()
