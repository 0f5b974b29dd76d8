"""The frame of a test cloud: a server on a free port that plays a script and remembers what it was asked.

A provider's file inherits `Cloud`, adds routes, and turns `perform`'s events into its own bytes.  The script is set in
process (`cloud.script = ...`), or over the wire: `PUT /_control/script`; `GET /_control/seen` tells what came in.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, TypeVar

import msgspec

from isochrone.errors import MissingExtra

from .script import Answer, Call, Count, Fault, Play, Script, tokens_of

try:
    from aiohttp import web
except ImportError as error:
    raise MissingExtra(
        "A test cloud needs aiohttp, which is not installed.", fix="pip install 'isochrone[fleet]'"
    ) from error

NUM_SEEN_MAX = 10_000
BODY_BYTES_MAX = 64 << 20


@dataclass(frozen=True, slots=True)
class Thought:
    """A token of what the model thinks."""

    text: str


@dataclass(frozen=True, slots=True)
class Word:
    """A token of what the model says."""

    text: str


@dataclass(frozen=True, slots=True)
class Calling:
    """A call of a tool.  index  among the calls of this answer"""

    index: int
    call: Call


@dataclass(frozen=True, slots=True)
class Faulted:
    """The stream ends with an error of the cloud's own, in the stream."""

    fault: Fault


@dataclass(frozen=True, slots=True)
class Ended:
    """The answer is whole."""

    finish: Literal["stop", "length", "filter", "calls"]
    count: Count
    block_reason: str = ""


Event: TypeAlias = Thought | Word | Calling | Faulted | Ended


class CutError(Exception):
    """The script breaks the connection here: call `cut`."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that came in.

    state  how it went: `open` while it is being answered, then `answered`, `refused`, `cut` or `hung_up`
    """

    path: str
    headers: Mapping[str, str]
    body: Any
    state: Literal["open", "answered", "refused", "cut", "hung_up"] = "open"


_Cloud = TypeVar("_Cloud", bound="Cloud")


class Cloud:
    """A provider's cloud, played.

    script  may be set at any time; what it says holds for the requests that come from then on
    clock   monotonic, seconds;  sleep: waits so long
    """

    def __init__(
        self,
        script: Script = Script(),
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.clock, self._sleep = clock, sleep
        self._seen: deque[Seen] = deque(maxlen=NUM_SEEN_MAX)
        self.num_in_flight = 0
        self.url = ""
        self._runner: web.AppRunner | None = None
        self.script = script

    @property
    def script(self) -> Script:
        return self._script

    @script.setter
    def script(self, script: Script) -> None:
        self._script = script
        self._plays = deque(script.plays)
        self._throttled_until = self.clock() + script.throttle_s if script.throttle_s else 0.0

    @property
    def seen(self) -> list[Seen]:
        """What came in, oldest first."""
        return list(self._seen)

    def routes(self) -> list[web.RouteDef]:
        """What the provider answers to."""
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        """What a caller in another process must know besides the address, such as credentials."""
        return {}

    async def start(self, port: int = 0, host: str = "127.0.0.1") -> str:
        """Listen; the address comes back (and is `url` from now on)."""
        app = web.Application(client_max_size=BODY_BYTES_MAX)
        app.add_routes([
            web.put("/_control/script", self._put_script),
            web.get("/_control/script", self._get_script),
            web.get("/_control/seen", self._get_seen),
            *self.routes(),
        ])  # fmt: skip
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        bound: int = self._runner.addresses[0][1]
        self.url = f"http://{host}:{bound}"
        return self.url

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self: _Cloud) -> _Cloud:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def settled(self) -> list[Seen]:
        """All that was asked, once nothing is under way: a client knows of an answer's end before this server does."""
        while self.num_in_flight:
            await asyncio.sleep(0.001)
        return self.seen

    def next_play(self, model: str) -> Play:
        """What the request that has just come in meets.  To be called once for each, before it is answered."""
        left_s = self._throttled_until - self.clock()
        if left_s > 0:
            return Fault("throttled", retry_after_s=left_s)
        if self._script.num_slots is not None and self.num_in_flight > self._script.num_slots:
            return Fault("throttled", retry_after_s=1.0)
        if self._plays:
            return self._plays.popleft()
        return self._script.models.get(model, self._script.default)

    async def handle(
        self, request: web.Request, body: Any, answer: Callable[[], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Run `answer` while the request counts as in flight, and remember how it went."""
        place = Seen(request.path_qs, dict(request.headers), body)
        self._seen.append(place)
        self.num_in_flight += 1
        state: Literal["answered", "refused", "cut", "hung_up"] = "hung_up"
        try:
            response = await answer()
            state = "answered" if response.status < 400 else "refused"
            return response
        except CutError:
            state = "cut"
            return cut(request)
        finally:
            self.num_in_flight -= 1
            self._settle(place, state)

    def _settle(self, place: Seen, state: Literal["answered", "refused", "cut", "hung_up"]) -> None:
        for index in range(len(self._seen) - 1, -1, -1):
            if self._seen[index] is place:
                self._seen[index] = replace(place, state=state)
                return

    async def perform(self, answer: Answer, prompt: str, num_prompt: int) -> AsyncIterator[Event]:
        """The answer's events at its pace.

        prompt  text of the last message;  num_prompt: tokens of the whole prompt, for the count
        Raises CutError where the script breaks the connection.
        """
        parts = _parts(answer, answer.text.replace("{prompt}", prompt))
        for number, part in enumerate(parts):
            await self._misbehave(answer, number)
            if answer.fault_after == number:
                yield Faulted(answer.fault)
                return
            wait_s = answer.token_s if number else answer.first_token_s
            if wait_s:
                await self._sleep(wait_s)
            yield part
        await self._misbehave(answer, len(parts))
        if answer.fault_after is not None and answer.fault_after >= len(parts):
            yield Faulted(answer.fault)
            return
        yield _end(answer, parts, num_prompt)

    async def _misbehave(self, answer: Answer, number: int) -> None:
        if answer.cut_after == number:
            raise CutError
        if answer.stall_after == number:
            await asyncio.Event().wait()  # until the caller hangs up, which cancels us

    async def _put_script(self, request: web.Request) -> web.Response:
        try:
            self.script = msgspec.json.decode(await request.read(), type=Script)
        except msgspec.DecodeError as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response({})

    async def _get_script(self, request: web.Request) -> web.Response:
        return web.Response(body=msgspec.json.encode(self._script), content_type="application/json")

    async def _get_seen(self, request: web.Request) -> web.Response:
        report = {"num_in_flight": self.num_in_flight, "seen": self.seen}
        return web.Response(body=msgspec.json.encode(report), content_type="application/json")


def _parts(answer: Answer, text: str) -> list[Thought | Word | Calling]:
    parts: list[Thought | Word | Calling] = [Thought(token) for token in tokens_of(answer.thought)]
    parts += [Word(token) for token in tokens_of(text)]
    parts += [Calling(index, call) for index, call in enumerate(answer.calls)]
    return parts


def _end(answer: Answer, parts: list[Thought | Word | Calling], num_prompt: int) -> Ended:
    num_thought = sum(isinstance(part, Thought) for part in parts)
    count = answer.count or Count(num_prompt, len(parts) - num_thought, num_thought=num_thought)
    return Ended(answer.finish or ("calls" if answer.calls else "stop"), count, answer.block_reason)


def cut(request: web.Request) -> web.StreamResponse:
    """Break the connection: the caller sees it die, not end."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


@contextmanager
def serving(cloud: _Cloud) -> Generator[_Cloud, None, None]:
    """Run the cloud in a thread of its own, for callers that block."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="test-cloud", daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(cloud.start(), loop).result()
        yield cloud
    finally:
        asyncio.run_coroutine_threadsafe(cloud.close(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
