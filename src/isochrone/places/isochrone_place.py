"""The place that is another Isochrone: records both ways, tokens included, so that answers go on exactly."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any, Literal

import msgspec

from isochrone.budget import Deadline
from isochrone.errors import BadRequest, DeadlineExceeded, IsochroneError, Unreachable

from .isochrone_wire import (
    COMPLETE_PATH,
    STATUS_PATH,
    Fault,
    Lines,
    Node,
    decode_line,
    decode_node,
    encode_asked,
    error_of,
)
from .offers import Offers, expect_options
from .place import Chat, Delta, Load, Price, Prompt, Prompted, Request, Status, Text
from .spec import ModelSpec, PlaceSpec
from .web import Answer, Web

GRACE_S = 0.25
"""The node keeps the deadline itself, and says so; it is waited for so much longer."""
POLL_S = 1.0
STATUS_WITHIN_S = 2.0
COUNT_WITHIN_S = 10.0
END_S = 0.05


def from_spec(spec: PlaceSpec) -> RemoteIsochrone:
    """The node that a fleet file describes.  options  `poll_s`.  Raises BadConfig and MissingExtra."""
    options = expect_options(spec, {"poll_s": (int, float)})
    return RemoteIsochrone(
        spec.name, spec.url, key=spec.key(), location=spec.location, price=spec.price or Price(), models=spec.models,
        poll_s=float(options.get("poll_s", POLL_S)),
    )  # fmt: skip


class RemoteIsochrone:
    """A server started with `isochrone up`.

    url      where it listens, such as http://192.0.2.7:8400;  key: one that may infer there
    models   under which names, prices and scores; empty: whatever it lists
    poll_s   how often it is asked how it is
    """

    def __init__(
        self, name: str, url: str, *, key: str = "", location: str = "site", price: Price = Price(),
        models: tuple[ModelSpec, ...] = (), poll_s: float = POLL_S, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._web = Web(name, url, {"authorization": f"Bearer {key}"} if key else {})
        self._name, self._location, self._price = name, location, price
        self._offers = Offers(name, models)
        self._poll_s, self._clock = poll_s, clock
        self._node: Node | None = None
        self._why = ""
        self._polling: asyncio.Task[None] | None = None

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
        return "exactly"

    @property
    def connect_took_s(self) -> float | None:
        """What its last new connection took, seconds."""
        return self._web.connect_took_s

    @property
    def round_trip_s(self) -> float | None:
        """From the last look at how it is to the answer, seconds, on a connection that stood."""
        return self._web.round_trip_s

    async def start(self) -> None:
        """Ask once how it is, and from then on again and again.  A node that is down is waited for, not an error."""
        if self._polling is None:
            await self.poll()
            self._polling = asyncio.create_task(self._poll(), name=f"poll-{self._name}")

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(self._poll_s)
            await self.poll()

    async def poll(self) -> None:
        """Ask it how it is; `status` says what it said, or that it does not answer."""
        try:
            answer = await self._web.get(STATUS_PATH, STATUS_WITHIN_S)
            try:
                body = await answer.all()
            finally:
                answer.close()
            if answer.status != 200:
                raise _refusal(self._name, answer.status, body)
            self._node, self._why = decode_node(body), ""
        except IsochroneError as error:
            self._why = str(error)

    def status(self) -> Status:
        node = self._node
        if node is None:
            return Status("failed" if self._why else "loading", self._offers.models(()), Load(), self._why)
        said = msgspec.structs.replace(node.status, models=self._offers.models(node.status.models))
        if self._why:
            return msgspec.structs.replace(said, state="failed", why=self._why)
        if node.is_draining:
            why = "It is shutting down: it finishes what it has, and takes nothing new."
            return msgspec.structs.replace(said, state="restarting", why=why)
        return said

    async def complete(self, request: Request, deadline: Deadline) -> AsyncGenerator[Prompted | Delta, None]:
        """See `Place.complete`."""
        now = self._clock()
        if request.dated and deadline.remaining_s(now) <= 0:
            raise DeadlineExceeded("The time was over before the node was asked.", fix="Allow more time.")
        request = msgspec.structs.replace(request, model=self._offers.upstream(request.model))
        until = deadline.total_at + GRACE_S if request.dated else None
        answer = await self._web.post(COMPLETE_PATH, encode_asked(request, deadline, now), until)
        num_open = request.n
        try:
            if answer.status != 200:
                raise _refusal(self._name, answer.status, await answer.all())
            lines = Lines()
            while num_open and (data := await answer.read()):
                for line in lines.push(data):
                    event = decode_line(line)
                    if isinstance(event, Fault):
                        raise error_of(event)
                    num_open -= isinstance(event, Delta) and event.finish_reason is not None
                    yield event
            if num_open:
                raise Unreachable(
                    f"{self._name} broke off in the middle of its answer.", fix="Ask again, or ask another place."
                )
            await _read_end(answer)
        finally:
            answer.close()

    async def tokenize(self, prompt: Prompt) -> list[int]:
        return _TOKENS.decode(await self._asked("/tokenize", msgspec.json.encode(self._counted(prompt)))).tokens

    async def detokenize(self, ids: list[int]) -> str:
        return _PROMPT.decode(await self._asked("/detokenize", msgspec.json.encode({"tokens": ids}))).prompt

    def _counted(self, prompt: Prompt) -> dict[str, Any]:
        match prompt:
            case Text(text, add_special):
                return {"prompt": text, "add_special_tokens": add_special}
            case Chat(messages, add_generation_prompt, tools=()) if not any(turn.tool_calls for turn in messages):
                turns = [{"role": turn.role, "content": turn.content} for turn in messages]
                return {"messages": turns, "add_generation_prompt": add_generation_prompt}
        raise BadRequest(
            f"{self._name} counts the tokens of texts, and of conversations without tools.", fix="Leave the tools out."
        )

    async def _asked(self, path: str, body: bytes) -> bytes:
        answer = await self._web.post(path, body, self._clock() + COUNT_WITHIN_S)
        try:
            said = await answer.all()
        finally:
            answer.close()
        if answer.status != 200:
            raise _refusal(self._name, answer.status, said)
        return said

    async def close(self) -> None:
        if self._polling is not None:
            self._polling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._polling
            self._polling = None
        await self._web.close()


class _Tokens(msgspec.Struct):
    tokens: list[int]


class _Text(msgspec.Struct):
    prompt: str


_TOKENS, _PROMPT = msgspec.json.Decoder(_Tokens), msgspec.json.Decoder(_Text)


def _refusal(name: str, status: int, body: bytes) -> IsochroneError:
    """What an answer that is none says; another server at that address does not speak as a node does."""
    with contextlib.suppress(Unreachable):
        fault = decode_line(body.strip())
        if isinstance(fault, Fault):
            return error_of(fault)
    return error_of(
        Fault(
            "", f"{name} answered {status} to what only an Isochrone node understands.",
            "Check the place's url, its key, and that `isochrone up` of this version runs there.", status,
        )
    )  # fmt: skip


async def _read_end(answer: Answer) -> None:
    """Until the body is over, so that the connection can be used again; not for long, since the answer is whole."""
    with contextlib.suppress(TimeoutError, IsochroneError):
        async with asyncio.timeout(END_S):
            while await answer.read():
                pass
