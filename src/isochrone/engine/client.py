"""The gateway's end of an engine: submits requests, and outlives the deaths of the process that serves them.

    loading ──Ready──► up ──process ends──► restarting ──Ready──► up
       └──Failed, or it dies again and again while loading──► failed

When a process dies, what each request still lacks is asked again of the next one: prompt plus tokens delivered, the
same seed, so the same text.  Who has been under two deaths in a row without gaining a token is asked again alone, and
gives up at the third: a request that kills engines takes no other with it.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass

import msgspec

from isochrone.errors import EngineDied, IsochroneError, Overloaded, Unreachable

from .child import EngineChild
from .records import (
    Cancel,
    Delta,
    Drain,
    EngineInfo,
    EngineSpec,
    EngineStats,
    Failed,
    FromEngine,
    Ready,
    Shutdown,
    StepOutput,
    Submit,
    error_of,
    with_seed,
)  # fmt: skip
from .waiter import Waiter, died_loading, died_serving

YOUNG_S = 1.0
"""A process that ends sooner than this after it was ready, asked for nothing, counts as dead while loading."""


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """num_requests_max  requests in flight; the next is refused as Overloaded
    num_deaths_max    deaths without gain that a request outlives;  num_load_deaths_max: deaths in a row while loading
    stall_s, load_s   silence after which a busy, or a loading, process is taken to hang and killed
    stop_s            how long it may take to end when told
    """

    num_requests_max: int = 1024
    num_deaths_max: int = 2
    num_load_deaths_max: int = 2
    stall_s: float = 120.0
    load_s: float = 600.0
    stop_s: float = 5.0


class EngineClient:
    """One model's engine.  Belongs to one event loop."""

    def __init__(self, spec: EngineSpec, options: ClientOptions | None = None) -> None:
        self._spec, self._options = spec, options or ClientOptions()
        self.stats = EngineStats()
        self.num_restarts = 0
        self.is_up = False
        self._child: EngineChild | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[EngineInfo] | None = None
        self._failure: IsochroneError | None = None
        self._waiters: dict[int, Waiter] = {}
        self._unproven: deque[int] = deque()  # asked again one after another
        self._num_submitted, self._is_closing, self._is_draining = 0, False, False
        self._was_asked, self._ready_at = False, 0.0

    @property
    def pid(self) -> int | None:
        """The process that serves now."""
        return self._child.pid if self._child else None

    @property
    def failure(self) -> IsochroneError | None:
        """Why no engine will come (back); None while one may."""
        return self._failure

    async def start(self) -> EngineInfo:
        """Start the process at once, then wait until the model is loaded.  Raises what made that impossible."""
        if self._supervisor is None:
            self._ready = asyncio.get_running_loop().create_future()
            self._child = await EngineChild.start(self._spec, self._on_message)
            self._supervisor = asyncio.create_task(self._supervise(self._child), name="engine-supervisor")
        assert self._ready is not None
        return await asyncio.shield(self._ready)

    async def submit(self, submit: Submit) -> AsyncGenerator[Delta, None]:
        """The request's deltas, as they come.  Closing the generator cancels the request.

        Raises what the engine refuses: ContextTooLong, BadRequest, Overloaded, DeadlineExceeded before the first delta,
        SequenceFailed and EngineDied at any time.
        """
        waiter = self._open(submit)
        id, stream = waiter.stream.submit.id, waiter.stream
        try:
            while stream.deltas or not stream.is_over:
                if stream.deltas:
                    yield stream.deltas.popleft()
                elif waiter.error is not None:
                    raise waiter.error
                else:
                    await waiter.wait()
        finally:
            self._shut(id)

    def cancel(self, submit: Submit, sample: int) -> None:
        """Stop one sample of a request; `submit` is the very record that was submitted."""
        for id, waiter in self._waiters.items():
            if waiter.asked is submit:
                waiter.stream.stop(sample)
                waiter.wake()
                self._say(Cancel(id, sample))
                return

    def drain(self) -> None:
        """Refuse what comes; what was taken is finished."""
        self._is_draining = True
        self._say(Drain())

    async def close(self) -> None:
        """Stop the process.  Whoever still waits gets EngineDied."""
        self._is_closing, self.is_up = True, False
        if self._supervisor is None:
            return
        self._fail_all(EngineDied("The engine was stopped.", fix="Ask again when the server is back."))
        self._say(Shutdown())
        child = self._child
        if child is not None and not child.ended.done():
            await asyncio.wait([child.ended], timeout=self._options.stop_s)
            if not child.ended.done():
                child.kill()
        await self._supervisor

    # Requests.

    def _open(self, submit: Submit) -> Waiter:
        if self._failure is not None:
            raise self._failure
        if self._is_closing or self._is_draining or len(self._waiters) >= self._options.num_requests_max:
            why = "is stopping" if self._is_closing or self._is_draining else f"has {len(self._waiters)} requests"
            raise Overloaded(f"The engine {why}.", fix="Ask again in a second.", retry_after_s=1.0)
        self._num_submitted += 1
        id = self._num_submitted
        waiter = self._waiters[id] = Waiter(with_seed(msgspec.structs.replace(submit, id=id)), submit)
        if self.is_up:
            self._ask(waiter)
        return waiter

    def _shut(self, id: int) -> None:
        waiter = self._waiters.pop(id)
        if waiter.is_waiting:
            self._say(Cancel(id))
        self._prove_next(id)

    def _ask(self, waiter: Waiter) -> None:
        """Ask the process for what this request lacks."""
        self._was_asked = True
        if self._child is not None:
            if sum(other.is_waiting for other in self._waiters.values()) == 1:
                self._child.heard_at = time.monotonic()  # until now it had nothing to say
            self._child.say(waiter.stream.rest())

    def _say(self, record: Submit | Cancel | Drain | Shutdown) -> None:
        if self._child is not None:
            self._child.say(record)

    # What the process says.

    def _on_message(self, message: FromEngine) -> None:
        match message:
            case StepOutput():
                self._on_step(message)
            case Ready(info):
                self._on_ready(info)
            case Failed():
                self._failure = error_of(message)

    def _on_step(self, output: StepOutput) -> None:
        self.stats = output.stats
        for delta in output.deltas:
            waiter = self._waiters.get(delta.id)
            if waiter is not None:  # else it was cancelled while this was on its way
                waiter.stream.push(delta)
                waiter.wake()
                self._prove_next(delta.id)
        for refusal in output.refusals:
            waiter = self._waiters.get(refusal.id)
            if waiter is not None:
                waiter.fail(error_of(refusal))
                self._prove_next(refusal.id)

    def _on_ready(self, info: EngineInfo) -> None:
        self.is_up = True
        assert self._ready is not None
        if not self._ready.done():
            self._ready.set_result(info)
        if self._is_draining:
            self._say(Drain())
        self._ready_at = time.monotonic()
        waiting = {id: waiter for id, waiter in self._waiters.items() if waiter.is_waiting}
        self._unproven = deque(id for id, waiter in waiting.items() if waiter.stream.num_deaths > 1)
        for waiter in waiting.values():
            if waiter.stream.num_deaths <= 1:
                self._ask(waiter)
        self._ask_again()

    def _prove_next(self, id: int) -> None:
        """This request has gained something, or is over: if others wait for that, the next is asked again."""
        if self._unproven and self._unproven[0] == id:
            self._unproven.popleft()
            self._ask_again()

    def _ask_again(self) -> None:
        while self._unproven:
            waiter = self._waiters.get(self._unproven[0])
            if waiter is not None and waiter.is_waiting:
                self._ask(waiter)
                return
            self._unproven.popleft()

    # Lives and deaths.

    async def _supervise(self, child: EngineChild) -> None:
        num_load_deaths = 0
        while True:
            await self._watch(child)
            lasted = self.is_up and (self._was_asked or time.monotonic() - self._ready_at > YOUNG_S)
            self.is_up, self._child, self.stats, self._was_asked = False, None, EngineStats(), False
            how = await child.reap(self._options.stop_s)
            num_load_deaths = 0 if lasted else num_load_deaths + 1
            if self._is_closing:
                self._give_up(EngineDied("The engine was stopped.", fix="Start it again."))
                return
            if self._failure is not None or num_load_deaths > self._options.num_load_deaths_max:
                self._give_up(self._failure or died_loading(how, num_load_deaths))
                return
            self.num_restarts += 1
            self._count_death(how)
            try:
                child = self._child = await EngineChild.start(self._spec, self._on_message)
            except Unreachable as error:
                self._give_up(error)
                return
            if self._is_closing:
                child.kill()

    async def _watch(self, child: EngineChild) -> None:
        """Until the process ends; kills one that hangs."""
        while not child.ended.done():
            await asyncio.wait([child.ended], timeout=min(self._options.stall_s, self._options.load_s) / 4)
            limit_s = self._options.stall_s if self.is_up else self._options.load_s
            is_busy = not self.is_up or any(waiter.is_waiting for waiter in self._waiters.values())
            if is_busy and not child.ended.done() and time.monotonic() - child.heard_at > limit_s:
                child.kill()

    def _count_death(self, how: str) -> None:
        num_max = self._options.num_deaths_max
        for id, waiter in self._waiters.items():
            if id in self._unproven and id != self._unproven[0]:
                continue  # it was not asked again yet
            waiter.stream.num_deaths += 1
            if waiter.stream.num_deaths > num_max:
                waiter.fail(died_serving(how, waiter.stream.num_deaths))

    def _give_up(self, error: IsochroneError) -> None:
        self._failure = error
        self._fail_all(error)
        assert self._ready is not None
        if not self._ready.done():
            self._ready.set_exception(error)
            self._ready.exception()  # whoever starts may not wait any more

    def _fail_all(self, error: IsochroneError) -> None:
        for waiter in self._waiters.values():
            if waiter.error is None:
                waiter.fail(error)
