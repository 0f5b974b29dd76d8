"""Responses that are being written: each can be found by its owner, looked at and cancelled while it runs.

    queued -> in_progress -> completed | incomplete | failed | cancelled
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from typing import Any, TypeAlias

from isochrone.errors import IsochroneError, Overloaded
from isochrone.places.place import Delta, Prompted

from .meter import Meter
from .openai_responses_draft import Draft, Event
from .trace import current_timing

Emit: TypeAlias = Callable[[list[Event]], Awaitable[None]]
Events: TypeAlias = AsyncGenerator[Prompted | Delta, None]
NUM_BACKGROUND_MAX = 32
"""Responses that one owner may have running in the background, where no connection is held that would count."""


class Run:
    """One response and the task that writes it.

    ended  set once nothing more happens to it, and it is kept if it is to be
    error  what it failed with after it had begun
    is_kept  whether it can be found once it has ended
    """

    def __init__(self, owner: str, id: str, draft: Draft) -> None:
        self.owner, self.id, self.draft = owner, id, draft
        self.ended = asyncio.Event()
        self.error: IsochroneError | None = None
        self.is_kept = False
        self._is_unwanted = False
        self._task: asyncio.Future[None] | None = None

    async def cancel(self) -> None:
        """Returns once it has ended."""
        self._is_unwanted = True
        if self._task is not None:
            self._task.cancel()
        await self.ended.wait()

    async def write(self, events: Events, meter: Meter, emit: Emit) -> list[Event]:
        """Follow the place to the end.  Returns the closing events, without the last.

        Raises what the place raises before its first event; afterwards a failure is part of the response.
        """
        self._task = task = asyncio.ensure_future(self._follow(events, meter, emit))
        if self._is_unwanted:
            task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if not self._is_unwanted or (current is not None and current.cancelling()):
                raise
            return self.draft.cancel()
        except IsochroneError as error:
            if not self.draft.has_begun:
                raise
            self.error = error
            return self.draft.fail(error)
        return self.draft.end(time.time())

    async def _follow(self, events: Events, meter: Meter, emit: Emit) -> None:
        async with aclosing(events):
            async for event in events:
                meter.push(event, time.monotonic())
                if said := self.draft.push(event):
                    await emit(said)
        self.draft.timing = current_timing()


class Runs:
    """Those of one server."""

    def __init__(self) -> None:
        self._runs: dict[tuple[str, str], Run] = {}
        self._tasks: dict[asyncio.Future[None], str] = {}

    def find(self, owner: str, id: str) -> Run | None:
        return self._runs.get((owner, id))

    def add(self, run: Run) -> None:
        self._runs[run.owner, run.id] = run

    def remove(self, run: Run) -> None:
        """It has ended."""
        del self._runs[run.owner, run.id]
        run.ended.set()

    def expect_room(self, owner: str) -> None:
        """Raises Overloaded when this owner has as many in the background as one may have."""
        if list(self._tasks.values()).count(owner) >= NUM_BACKGROUND_MAX:
            raise Overloaded(
                f"{NUM_BACKGROUND_MAX} responses of this key run in the background, as many as one may have.",
                fix="Wait for some, or cancel them.", retry_after_s=5.0,
            )  # fmt: skip

    def keep(self, owner: str, work: Coroutine[Any, Any, None]) -> None:
        """Run something that no caller waits for; it handles its own errors."""
        task = asyncio.ensure_future(work)
        self._tasks[task] = owner
        task.add_done_callback(self._tasks.pop)
