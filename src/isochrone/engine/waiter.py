"""A request and the one task that waits for it; and what is said when its engine cannot be brought back."""

from __future__ import annotations

import asyncio

from isochrone.errors import EngineDied, IsochroneError

from .records import Submit
from .stream import Stream


class Waiter:
    """A stream and who reads it.

    asked  the record as it was submitted, by which its owner names it
    """

    def __init__(self, submit: Submit, asked: Submit) -> None:
        self.stream, self.asked = Stream(submit), asked
        self.error: IsochroneError | None = None
        self._wake: asyncio.Future[None] | None = None

    @property
    def is_waiting(self) -> bool:
        """The engine owes it something."""
        return self.error is None and not self.stream.is_over

    def wake(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def fail(self, error: IsochroneError) -> None:
        self.error = error
        self.wake()

    async def wait(self) -> None:
        self._wake = asyncio.get_running_loop().create_future()
        await self._wake


def died_loading(how: str, num_deaths: int) -> EngineDied:
    """The model could not be loaded: the process ended each time it tried."""
    return EngineDied(
        f"The engine {how} while it loaded the model, {num_deaths} times.",
        fix="Look for the reason in its log above; a kill by signal 9 often means that memory ran out.",
    )


def died_serving(how: str, num_deaths: int) -> EngineDied:
    """This request has been under too many deaths."""
    return EngineDied(
        f"The engine {how}; it has died {num_deaths} times under this request.",
        fix="Send it again once; if that fails too, report the prompt: it crashes generated code.",
    )
