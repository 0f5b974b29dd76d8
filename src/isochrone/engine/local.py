"""An engine in the caller's own thread, for `complete` and the Python API: the same records, no process."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

import msgspec

from isochrone.errors import IsochroneError
from isochrone.runtime.step import Runtime

from .engine import Engine
from .records import Delta, EngineInfo, EngineLimits, EngineStats, Submit, error_of
from .stream import Stream

if TYPE_CHECKING:
    from isochrone.text.grammar import Tokens


class LocalEngine:
    """Requests on one runtime; whoever reads a request's deltas runs the steps, for all of them."""

    def __init__(
        self, runtime: Runtime, limits: EngineLimits | None = None, *, clock: Callable[[], float] = time.monotonic,
        load_tokens: Callable[[], Tokens] | None = None,
    ) -> None:  # fmt: skip
        """load_tokens: see `Engine`."""
        self._engine, self._clock = Engine(runtime, limits, clock=clock, load_tokens=load_tokens), clock
        self._streams: dict[int, Stream] = {}
        self._errors: dict[int, IsochroneError] = {}
        self._num_submitted = 0

    @property
    def info(self) -> EngineInfo:
        return self._engine.info

    @property
    def stats(self) -> EngineStats:
        return self._engine.stats

    def submit(self, submit: Submit) -> Generator[Delta, None, None]:
        """The request's deltas.  It arrives when the first is asked for; closing the generator cancels it.

        Raises what the engine refuses.  arrived_at is set to now where it is 0.
        """
        self._num_submitted += 1
        id, arrived_at = self._num_submitted, submit.arrived_at or self._clock()
        stream = self._streams[id] = Stream(msgspec.structs.replace(submit, id=id, arrived_at=arrived_at))
        self._engine.submit(stream.submit)
        try:
            while stream.deltas or not stream.is_over:
                if stream.deltas:
                    yield stream.deltas.popleft()
                elif id in self._errors:
                    raise self._errors[id]
                else:
                    self._step()
        finally:
            del self._streams[id]
            self._errors.pop(id, None)
            self._engine.cancel(id)

    def cancel(self, id: int, sample: int) -> None:
        """Stop one sample of a request; the id is that of its deltas."""
        if id in self._streams:
            self._streams[id].stop(sample)
            self._engine.cancel(id, sample)

    def _step(self) -> None:
        output = self._engine.step(self._clock())
        for delta in output.deltas:
            if delta.id in self._streams:
                self._streams[delta.id].push(delta)
        for refusal in output.refusals:
            if refusal.id in self._streams:
                self._errors[refusal.id] = error_of(refusal)
