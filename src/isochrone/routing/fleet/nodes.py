"""Nodes that announce themselves: what they say, who may, and the places that they become.

Join, then say every few seconds that you are there; drain, finish, leave.  Who falls silent is gone after a while.  All
of it lies in the ledger, so that two gateways over one database see one fleet.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal, Protocol, TypeAlias, TypeVar

import msgspec
from msgspec import Struct

from isochrone.errors import BadConfig, BadRequest, NotAllowed, NotFound
from isochrone.places.catalogue import Catalogue
from isochrone.places.spec import ModelSpec, PlaceSpec
from isochrone.routing.geography import Geography
from isochrone.routing.geography.regions import AREAS

from .file import NODE, completed, is_url

BEAT_S, SILENT_S = 5.0, 16.0
"""How often a node says that it is there, and how long it may be silent: three beats may be lost."""
BODY_BYTES_MAX = 64 * 1024
NUM_MODELS_MAX = 256
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
State: TypeAlias = Literal["live", "draining"]
_Body = TypeVar("_Body")


class Joining(Struct, frozen=True, forbid_unknown_fields=True):
    """What a node says of itself.

    location       `site`, a region's name, or a point of the gateway's fleet file
    models         ids that it serves; empty: ask it
    max_in_flight  most requests that it takes from one gateway at once
    """

    name: str
    url: str
    location: str
    models: tuple[str, ...] = ()
    max_in_flight: int | None = None


class Named(Struct, frozen=True, forbid_unknown_fields=True):
    """Which node drains or leaves."""

    name: str


class Facts(Struct, frozen=True):
    """What the ledger keeps of a node beside its name and address."""

    location: str
    models: tuple[str, ...] = ()
    max_in_flight: int | None = None


class Announced(Protocol):
    """A node as the ledger holds it.  silent_s  seconds since it was last heard"""

    @property
    def name(self) -> str: ...
    @property
    def url(self) -> str: ...
    @property
    def state(self) -> State: ...
    @property
    def facts(self) -> bytes: ...
    @property
    def silent_s(self) -> float: ...


class Nodes(Protocol):
    """Where nodes are written down (`ledger.nodes.Nodes`)."""

    async def announce(self, name: str, url: str, facts: bytes) -> None: ...
    async def beat(self, name: str, facts: bytes | None = None) -> bool: ...
    async def drain(self, name: str) -> bool: ...
    async def leave(self, name: str) -> bool: ...
    async def present(self, within_s: float) -> Sequence[Announced]: ...


class Door:
    """The gateway's side: checks who asks, writes down what they say.

    token  the fleet's secret;  geography: where a node can say that it stands
    """

    def __init__(self, nodes: Nodes, token: str, geography: Geography) -> None:
        self.nodes, self._token, self._geography = nodes, token.encode(), geography

    async def handle(self, action: str, authorization: bytes, body: bytes) -> dict[str, object]:
        """Answer `POST /v1/fleet/ACTION`, with join (also each beat), drain or leave.

        authorization  the header's value.  Raises NotAllowed, BadRequest, NotFound.
        """
        scheme, _, token = authorization.partition(b" ")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(token.strip(), self._token):
            raise NotAllowed(
                "This is not the token of the fleet.", fix="Send the gateway's token: isochrone join URL --token TOKEN."
            )
        match action:
            case "join":
                return await self._join(_decoded(body, Joining))
            case "drain":
                return await self._end(_decoded(body, Named).name, "draining")
            case "leave":
                return await self._end(_decoded(body, Named).name, "left")
        raise NotFound(f"Nodes can do nothing called {action[:40]!r}.", fix="Post to join, drain or leave.")

    async def _join(self, said: Joining) -> dict[str, object]:
        self._expect_sound(said)
        facts = msgspec.json.encode(Facts(said.location, said.models, said.max_in_flight))
        there = {node.name: node for node in await self.nodes.present(SILENT_S)}.get(said.name)
        if there is not None and there.url != said.url:
            raise BadRequest(
                f"A node called {said.name} is at {there.url} already.",
                fix=f"Join under another name, or wait {SILENT_S:.0f} s after it left.", param="name",
            )  # fmt: skip
        if there is None:
            await self.nodes.announce(said.name, said.url, facts)
        elif not await self.nodes.beat(said.name, facts):
            await self.nodes.announce(said.name, said.url, facts)
        state = "draining" if there is not None and there.state == "draining" else "live"
        return {"name": said.name, "state": state, "beat_s": BEAT_S, "silent_s": SILENT_S}

    async def _end(self, name: str, state: str) -> dict[str, object]:
        known = await (self.nodes.drain(name) if state == "draining" else self.nodes.leave(name))
        if not known:
            raise NotFound(f"There is no node called {name[:64]!r}.", fix="Let it join first.")
        return {"name": name, "state": state}

    def _expect_sound(self, said: Joining) -> None:
        if not _NAME.fullmatch(said.name):
            raise BadRequest("That name cannot be a node's.", fix="Use letters, digits, dots, dashes.", param="name")
        if not is_url(said.url):
            raise BadRequest(
                f"{said.url[:80]!r} is no address of a server.",
                fix="Say where the gateway reaches the node: http://HOST:PORT.", param="url",
            )  # fmt: skip
        self._expect_location(said.location)
        if len(said.models) > NUM_MODELS_MAX or not all(said.models):
            raise BadRequest("Those are no ids of models.", fix="Leave models out: it is asked.", param="models")
        if said.max_in_flight is not None and said.max_in_flight < 1:
            raise BadRequest("max_in_flight is below 1.", fix="Leave it out for no bound.", param="max_in_flight")

    def _expect_location(self, location: str) -> None:
        try:
            self._geography.expect_known(location)
        except BadConfig as error:
            raise BadRequest(error.message, fix=error.fix, param="location") from None
        if location == "local" or location in AREAS:
            raise BadRequest(
                f"A node cannot stand at {location!r}.", fix="Say site, or a region's name.", param="location"
            )


def node_key(token: str, name: str) -> str:
    """The key that gateways show to a node: made of the token, so nobody stores it, and of no use elsewhere."""
    return hmac.new(token.encode(), b"isochrone node " + name.encode(), hashlib.sha256).hexdigest()


def spec_of(node: Announced, token: str, catalogue: Catalogue) -> PlaceSpec:
    """The place that a node is."""
    facts = msgspec.json.decode(node.facts, type=Facts)
    spec = PlaceSpec(
        NODE + node.name, "isochrone", node.url, location=facts.location, max_in_flight=facts.max_in_flight,
        secret=node_key(token, node.name),
    )  # fmt: skip
    return replace(spec, models=tuple(completed(spec, ModelSpec(id, id), catalogue) for id in facts.models))


async def specs_present(nodes: Nodes, token: str, catalogue: Catalogue) -> tuple[PlaceSpec, ...]:
    """Places of all nodes that take requests now."""
    present = await nodes.present(SILENT_S)
    return tuple(spec_of(node, token, catalogue) for node in present if node.state == "live")


class _Held(Struct):
    name: str
    url: str
    state: State
    facts: bytes
    silent_s: float


class NodesInMemory:
    """Nodes of one gateway without a ledger.  now  a clock, seconds"""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._held: dict[str, tuple[str, State, bytes, float]] = {}

    async def announce(self, name: str, url: str, facts: bytes) -> None:
        self._held[name] = (url, "live", facts, self._now())

    async def beat(self, name: str, facts: bytes | None = None) -> bool:
        return self._change(name, lambda url, state, kept: (url, state, kept if facts is None else facts, self._now()))

    async def drain(self, name: str) -> bool:
        beat_at = self._held[name][3] if name in self._held else 0.0
        return self._change(name, lambda url, state, facts: (url, "draining", facts, beat_at))

    async def leave(self, name: str) -> bool:
        return self._held.pop(name, None) is not None

    async def present(self, within_s: float) -> Sequence[Announced]:
        now = self._now()
        every = (_Held(name, url, state, facts, now - at) for name, (url, state, facts, at) in self._held.items())
        return sorted((node for node in every if node.silent_s <= within_s), key=lambda node: node.name)

    def _change(self, name: str, change: Callable[[str, State, bytes], tuple[str, State, bytes, float]]) -> bool:
        if name not in self._held:
            return False
        self._held[name] = change(*self._held[name][:3])
        return True


def _decoded(body: bytes, kind: type[_Body]) -> _Body:
    if len(body) > BODY_BYTES_MAX:
        raise BadRequest("The body is longer than any node's.", fix="Leave models out: they are asked.")
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise BadRequest(f"The body is not what a node says: {error}.", fix="Send name, url and location.") from None
