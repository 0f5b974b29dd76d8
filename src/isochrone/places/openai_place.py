"""The place that is any server with OpenAI's API: vLLM, SGLang, llama.cpp, Ollama, another gateway, OpenAI itself."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Literal

import msgspec

from isochrone.budget import Deadline
from isochrone.errors import BadConfig, BadRequest, DeadlineExceeded, IsochroneError, Unreachable

from .estimate import num_prompt_tokens
from .offers import Offers, expect_options
from .openai_answer import OpenAIAnswer
from .openai_faults import fault_of
from .openai_flavours import FLAVOURS, Flavour
from .openai_load import headroom_of, load_of, models_of
from .openai_request import to_body
from .openai_sse import Events
from .place import Chat, Delta, Load, Price, Prompt, Prompted, Request, Status
from .spec import ModelSpec, PlaceSpec
from .web import Answer, Signer, Web

URL = "https://api.openai.com/v1"
POLL_S = 2.0
NUM_POLLS_PER_LISTING = 30
WITHIN_S = 5.0
END_S = 0.05
REFUSAL_BYTES_MAX = 64 * 2**10
EVENTS = "text/event-stream"


def from_spec(spec: PlaceSpec) -> OpenAIPlace:
    """The server that a fleet file describes.  options  `flavour`, `poll_s`.  Raises BadConfig and MissingExtra."""
    options = expect_options(spec, {"flavour": (str,), "poll_s": (int, float)})
    return OpenAIPlace(
        spec.name, spec.url or URL, key=spec.key(), location=spec.location, price=spec.price or Price(),
        models=spec.models, flavour=options.get("flavour"), poll_s=float(options.get("poll_s", POLL_S)),
    )  # fmt: skip


class OpenAIPlace:
    """One server.

    url      of its API, such as http://192.0.2.7:8000/v1
    models   under which names, prices and scores; empty: whatever it lists
    flavour  whose server it is; None: told from what it lists
    poll_s   how often its load is read, where it gives any
    signer   proves each request, in the place of a key
    clock, wall  seconds: monotonic, and Unix time for what a Retry-After means
    """

    def __init__(
        self, name: str, url: str = URL, *, key: str = "", location: str = "site", price: Price = Price(),
        models: tuple[ModelSpec, ...] = (), flavour: str | None = None, poll_s: float = POLL_S,
        signer: Signer | None = None,
        clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        if flavour is not None and flavour not in FLAVOURS:
            raise BadConfig(
                f"The place {name} has the flavour {flavour!r}, which nobody knows.",
                fix=f"Use one of {', '.join(FLAVOURS)}, or leave it out.",
            )
        self._signer = signer
        self._web = Web(name, url, {"authorization": f"Bearer {key}"} if key else {}, signer=signer)
        self._name, self._location, self._price = name, location, price
        self._given = FLAVOURS[flavour] if flavour else None
        self._flavour: Flavour = self._given or FLAVOURS["plain"]
        self._offers = Offers(name, models, self._flavour.abilities)
        self._listed = self._offers.models(())
        self._is_listed, self._why = False, ""
        self._load: Load | None = None
        self._headroom: float | None = None
        self._poll_s, self._clock, self._wall = poll_s, clock, wall
        self._polling: asyncio.Task[None] | None = None
        self.num_in_flight = 0

    @property
    def name(self) -> str:
        return self._name

    @property
    def price(self) -> Price:
        return self._price

    @property
    def location(self) -> str:
        return self._location

    @property
    def continues(self) -> Literal["exactly", "roughly", "no"]:
        return "no" if self._flavour.prefill is None else "roughly"

    @property
    def flavour(self) -> str:
        """Whose server it is, as far as that is known."""
        return self._flavour.name

    @property
    def connect_took_s(self) -> float | None:
        """What its last new connection took, seconds."""
        return self._web.connect_took_s

    @property
    def round_trip_s(self) -> float | None:
        """From the last look at how it is to the answer, seconds, on a connection that stood."""
        return self._web.round_trip_s

    # How it is.

    async def start(self) -> None:
        """Ask what it serves, and read its load from then on.  A server that is down is waited for, not an error."""
        if self._polling is None:
            await self.list_models()
            await self.read_load()
            self._polling = asyncio.create_task(self._poll(), name=f"poll-{self._name}")

    async def _poll(self) -> None:
        number = 0
        while True:
            await asyncio.sleep(self._poll_s)
            number += 1
            if self._why or number % NUM_POLLS_PER_LISTING == 0:
                await self.list_models()
            await self.read_load()

    async def list_models(self) -> None:
        """Ask which models it has.  Where the operator has named them, only whether it answers counts."""
        try:
            status, headers, body = await self._got("/models")
            if status == 200:
                listed, self._flavour = models_of(self._name, body, self._given)
                self._listed = self._offers.models(listed)
            elif not self._offers.are_fixed:
                raise fault_of(self._name, status, headers, body, self._wall())
            self._is_listed, self._why = True, ""
        except IsochroneError as error:
            self._why = str(error)

    async def read_load(self) -> None:
        """Read its metrics, where it is a server that has them; what cannot be read is not known."""
        if self._flavour.metrics is None:
            return
        load = None
        with contextlib.suppress(IsochroneError):
            status, _, body = await self._got(f"{self._web.url.removesuffix('/v1')}/metrics")
            if status == 200:
                load = load_of(body.decode("utf-8", "replace"), self._flavour.metrics)
        self._load = load

    async def _got(self, path: str) -> tuple[int, dict[str, str], bytes]:
        answer = await self._web.get(path, WITHIN_S)
        try:
            return answer.status, dict(answer.headers), await answer.all()
        finally:
            answer.close()

    def status(self) -> Status:
        load = msgspec.structs.replace(self._load or Load(num_running=self.num_in_flight), headroom=self._headroom)
        if self._why:
            return Status("failed", self._listed, load, self._why)
        is_ready = self._is_listed or self._offers.are_fixed
        return Status("ready" if is_ready else "loading", self._listed, load)

    # What it answers.

    async def complete(self, request: Request, deadline: Deadline) -> AsyncGenerator[Prompted | Delta, None]:
        """See `Place.complete`.  The prompt's tokens are guessed; the last delta's usage has the server's own count."""
        if request.dated and deadline.remaining_s(self._clock()) <= 0:
            raise DeadlineExceeded("The time was over before the place was asked.", fix="Allow more time.")
        path, body = to_body(request, self._offers.upstream(request.model), self._flavour)
        until = deadline.total_at if request.dated else None
        has_begun, ended = False, set[int]()
        self.num_in_flight += 1
        try:
            answer = await self._asked(path, body, until)
            try:
                self._note(answer)
                async for delta in self._deltas(answer, request):
                    if not has_begun:
                        has_begun = True
                        yield Prompted(num_prompt_tokens(request))
                    if delta.finish_reason is not None:
                        ended.add(delta.index)
                    yield delta
            except DeadlineExceeded:
                if not has_begun:
                    raise
                for index in set(range(request.n)) - ended:  # cut as our own engine's answers are
                    yield Delta(index, "", 0, finish_reason="length", ended_by="deadline")
            finally:
                answer.close()
        finally:
            self.num_in_flight -= 1

    async def _asked(self, path: str, body: bytes, until: float | None) -> Answer:
        """The head of the answer.  Raises what a refusal stands for."""
        is_signed_anew = self._signer is None
        while True:
            answer = await self._web.post(path, body, until)
            if answer.status == 200:
                return answer
            try:
                said = await answer.all()
            finally:
                answer.close()
            if not is_signed_anew and answer.status in (401, 403) and await self._recovers(answer, said):
                is_signed_anew = True
                continue
            raise fault_of(self._name, answer.status, answer.headers, said, self._wall())

    async def _recovers(self, answer: Answer, said: bytes) -> bool:
        assert self._signer is not None
        kind, date = answer.headers.get("x-amzn-errortype", ""), answer.headers.get("date")
        return await self._signer.recovers(kind, said[:REFUSAL_BYTES_MAX].decode("utf-8", "replace"), date)

    def _note(self, answer: Answer) -> None:
        headroom = headroom_of(answer.headers)
        self._headroom = self._headroom if headroom is None else headroom

    async def _deltas(self, answer: Answer, request: Request) -> AsyncGenerator[Delta, None]:
        is_repeated = self._flavour.repeats and isinstance(request.prompt, Chat) and request.partial is not None
        repeated = request.partial.text if is_repeated and request.partial else ""
        reading = OpenAIAnswer(self._name, request.n, self._wall(), repeated)
        if not answer.headers.get("content-type", "").lower().startswith(EVENTS):
            for delta in reading.whole(await answer.all(WHOLE_BYTES_MAX)):
                yield delta
            return
        events = Events()
        while not reading.is_done and (data := await _next(answer, reading)):
            for delta in _read(events.push(data), reading):
                yield delta
        if not reading.is_done:
            for delta in _read(events.close(), reading):
                yield delta
            for delta in reading.close():
                yield delta
        await _read_end(answer)

    async def tokenize(self, prompt: Prompt) -> list[int]:
        raise BadRequest(
            f"{self._name} gives its tokens to nobody.", fix="Count with a place that is an Isochrone, or locally."
        )

    async def detokenize(self, ids: list[int]) -> str:
        raise BadRequest(f"{self._name} gives its tokens to nobody.", fix="Ask a place that is an Isochrone.")

    async def close(self) -> None:
        if self._polling is not None:
            self._polling.cancel()
            await asyncio.gather(self._polling, return_exceptions=True)
            self._polling = None
        await self._web.close()


WHOLE_BYTES_MAX = 64 * 2**20


async def _next(answer: Answer, reading: OpenAIAnswer) -> bytes:
    """What has come; nothing at the end, or where the connection breaks behind it: to go on elsewhere would say more
    than the answer."""
    try:
        return await answer.read()
    except Unreachable:
        if not reading.is_whole:
            raise
        return b""


def _read(events: list[tuple[str, bytes]], reading: OpenAIAnswer) -> Iterator[Delta]:
    for name, data in events:
        if reading.is_done:
            return
        yield from reading.push(name, data)


async def _read_end(answer: Answer) -> None:
    """Until the body is over, so that the connection can be used again; not for long, since the answer is whole."""
    with contextlib.suppress(TimeoutError, Unreachable, DeadlineExceeded):
        async with asyncio.timeout(END_S):
            while await answer.read():
                pass
