"""A place in the simulator: a node or a cloud at the end of a network, and what the gateway knows of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from isochrone.places.place import Price
from isochrone.predict.blackbox import CAUTIOUS, Prior
from isochrone.routing.records import FREE, Candidate, Quantiles

from .cloud import Cloud, CloudSpec
from .node import Node, NodeSpec, PrefixCache
from .noise import Luck
from .trace import Arrival

MODEL = "model"
JITTER = 0.15
"""Standard deviation of the logarithm of a round trip."""
POLL_S = 1.0
"""How old a node's own word on its queue may be."""
AFFINITY_SHARE = 0.8
"""The gateway believes a prompt cached among the last so many of the blocks that a node can hold."""


@dataclass(frozen=True, slots=True)
class PlaceSpec:
    """group  what is lost together: a site or a region;  rtt_s: median of the round trip;  prior: of its maker"""

    name: str
    group: str
    rtt_s: float
    kind: NodeSpec | CloudSpec
    price: Price = FREE
    prior: Prior = CAUTIOUS


@dataclass(slots=True)
class Attempt:
    """One try at a place.  first_at, end_at: at the gateway, infinite until they come"""

    id: int
    request: int
    number: int
    place: SimulatedPlace
    sent_at: float
    num_prompt: int
    num_answer: int
    num_cached: int
    in_flight: int
    in_flight_prompt: int
    silent_prompt: int
    num_others: int
    oldest_silent_s: float
    first_at: float = math.inf
    itl_s: float = 0.0
    is_over: bool = False


@dataclass(slots=True)
class Breaker:
    """Opens after three failures in a row, for 5 s and twice as long each time up to 30 s; then one may try."""

    num_failed: int = 0
    open_until: float = 0.0
    open_s: float = 5.0

    def saw(self, *, failed: bool, now: float) -> None:
        if not failed:
            self.num_failed, self.open_s = 0, 5.0
            return
        self.num_failed += 1
        if self.num_failed >= 3:
            self.open_until, self.open_s = now + self.open_s, min(30.0, 2.0 * self.open_s)

    def rest(self, seconds: float, now: float) -> None:
        """The place asked for a pause."""
        self.open_until = max(self.open_until, now + seconds)

    def trying(self, now: float) -> None:
        """One request is sent although the place has failed: the others wait for what it says."""
        if self.num_failed >= 3:
            self.open_until = max(self.open_until, now + 1.5)


@dataclass(slots=True)
class SimulatedPlace:
    """State of both ends."""

    spec: PlaceSpec
    index: int
    luck: Luck
    seed: int
    length_s: float
    node: Node | None = None
    cloud: Cloud | None = None
    down: tuple[float, float] = (math.inf, math.inf)
    breaker: Breaker = field(default_factory=Breaker)
    active: dict[int, Attempt] = field(default_factory=dict)
    version: int = 0
    num_in_flight: int = 0
    in_flight_prompt: int = 0
    num_silent: int = 0
    silent_prompt: int = 0
    polled: tuple[float, int, int] = (-math.inf, 0, 0)
    cache: PrefixCache = field(init=False)
    believed: PrefixCache = field(init=False)

    def __post_init__(self) -> None:
        if isinstance(self.spec.kind, NodeSpec):
            self.node = Node(self.spec.kind)
            self.cache = PrefixCache(self.spec.kind.cache_blocks)
            self.believed = PrefixCache(int(AFFINITY_SHARE * self.spec.kind.cache_blocks))
        else:
            self.cloud = Cloud(self.spec.kind, self.luck, self.index, self.seed + self.index, self.length_s)
            self.cache = PrefixCache(1 << 20, self.spec.kind.cache_s)
            self.believed = PrefixCache(1 << 20, self.spec.kind.cache_s)

    def is_down(self, at: float) -> bool:
        return self.down[0] <= at < self.down[1]

    def oldest_silent_s(self, now: float) -> float:
        """How long the oldest request without a first token has waited."""
        for attempt in self.active.values():  # in the order of sending
            if math.isinf(attempt.first_at):
                return now - attempt.sent_at
        return 0.0

    def round_trip_s(self, request: int, attempt: int) -> float:
        return self.spec.rtt_s * math.exp(JITTER * self.luck.normal(request, attempt, self.index, 2))

    def num_held(self, arrival: Arrival, request: int, attempt: int, now: float) -> int:
        """Tokens of the prompt that its cache really holds."""
        if not arrival.blocks or (self.cloud is not None and not self.cloud.is_cached(request, attempt)):
            return 0
        return min(self.cache.held(arrival.blocks, now) * arrival.block_tokens, arrival.num_prompt - 1)

    def candidate(self, arrival: Arrival, now: float, num_seen: int, poll: Callable[[], None]) -> Candidate:
        """What the gateway knows of it, for this request."""
        believed, waiting, running = 0, None, None
        if arrival.blocks:
            believed = min(self.believed.held(arrival.blocks, now) * arrival.block_tokens, arrival.num_prompt - 1)
            if self.cloud is not None:
                believed = int(believed * self.cloud.spec.cache_share)
        if self.node is not None:
            if now - self.polled[0] > POLL_S:
                poll()
                self.polled = (now, len(self.node.waiting), self.node.num_running)
            _, waiting, running = self.polled
        rtt_s = self.spec.rtt_s
        return Candidate(
            self.spec.name, MODEL, location=self.spec.group,
            network=Quantiles(rtt_s, rtt_s * math.exp(1.28 * JITTER), rtt_s * math.exp(2.33 * JITTER)),
            price=self.spec.price, num_in_flight=self.num_in_flight, in_flight_prompt=self.in_flight_prompt,
            num_waiting=waiting, num_running=running, num_cached=believed,
            is_open=now >= self.breaker.open_until,
            headroom=1.0 if self.cloud is None else self.cloud.headroom(now),
            num_seen=num_seen, num_silent=self.num_silent, silent_prompt=self.silent_prompt,
            oldest_silent_s=self.oldest_silent_s(now),
        )  # fmt: skip
