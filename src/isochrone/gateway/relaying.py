"""`POST /v1/chat/completions` over a fleet: the caller's bytes to the place that is chosen, its bytes to the caller.

    body -> what the choice needs of it -> the carrier (choice, hedges, failover) -> pieces -> the caller
                                                                            the ending: what became of it
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

import msgspec

from isochrone.budget import Deadline
from isochrone.errors import Unreachable
from isochrone.places.place import Request
from isochrone.places.route import Route
from isochrone.routing.execute import Exchange, Sent
from isochrone.routing.records import Ask

from .answer_facts import route_fields
from .call import Call
from .cost import Cost
from .deadlines import deadline_of
from .meter import Meter
from .openai_chat import PARSER, to_request
from .relay_body import ChatBody, expect_bounds, read_body
from .relay_exchange import Doors, Find, RelayExchange
from .relay_frames import Piece

if TYPE_CHECKING:
    from .app import Gateway

MakeExchange: TypeAlias = Callable[[Find, Callable[[Sent], Route]], Exchange[Piece]]


@dataclass(frozen=True, slots=True)
class Carried:
    """What is to be carried, as far as the choice of a place looks at it.

    prompt    bytes of the prompt, from their beginning: who has answered one that begins so is warm
    is_dated  the caller stated a total time
    run       of the agent's run that this is a step of; empty for none
    """

    id: str
    ask: Ask
    prompt: bytes
    is_dated: bool
    run: str = ""


class Carrier(Protocol):
    """Chooses among the fleet's places and runs an exchange there: the router."""

    def carry(self, what: Carried, deadline: Deadline, exchange: MakeExchange) -> AsyncGenerator[Piece, None]:
        """The pieces of one answer.  Closing it hangs up everywhere.  Raises what the places' errors come to."""
        ...


class Relay:
    """The handler of chats where places are chosen."""

    def __init__(self, carrier: Carrier, doors: Doors) -> None:
        self._carrier, self._doors = carrier, doors

    async def answer(self, gateway: Gateway, call: Call) -> None:
        raw = await call.body()
        body = read_body(raw)
        limits = gateway.limits
        expect_bounds(body, num_messages_max=limits.num_messages, num_answers_max=limits.num_answers)
        gateway.expect_model(body.model)
        deadline, is_dated = deadline_of(call, body.budget)
        ask = ask_of(body, call.tenant, deadline, call.arrived_at, is_dated=is_dated)
        carried = Carried(call.id, ask, body.prompt, is_dated, call.run)

        def request() -> Request:
            return to_request(PARSER.parse(raw), id=call.id, tenant=call.tenant, limits=limits, dated=is_dated)

        made: list[RelayExchange] = []

        def exchange(find: Find, route: Callable[[Sent], Route]) -> RelayExchange:
            made.append(RelayExchange(body, request, self._doors, find, route))
            return made[-1]

        async def work(meter: Meter) -> None:
            trace = call.trace
            assert trace is not None, "the gateway makes a trace before it lets a call generate"
            trace.begin_as(body.model, deadline, dated=is_dated)
            num_tokens = ask.num_prompt + body.num_answers * (body.num_answer_max or 0)
            with gateway.place.reserving(call.tenant, Cost(num_tokens, 0)) as used:
                async with aclosing(self._carrier.carry(carried, deadline, exchange)) as pieces:
                    async for piece in pieces:
                        now = time.monotonic()
                        used.num_tokens += piece.num_frames
                        meter.count(piece.num_frames, now)
                        trace.count(piece.num_frames, now)
                        if piece.ending is not None:
                            used.num_tokens = meter.settle(piece.ending.usage)
                            trace.settle(piece.ending.usage, piece.ending.finish_reason)
                        trace.route = made[-1].route
                        if body.is_streamed and piece.data:
                            await call.stream(piece.data)
                        elif not body.is_streamed:
                            await call.respond(_with_route(piece.data, trace.route))
            await _end(call, body, made[-1])

        await gateway.generate(call, work)


def ask_of(body: ChatBody, tenant: str, deadline: Deadline, now: float, *, is_dated: bool) -> Ask:
    """What the choice looks at."""
    return Ask(
        model=body.model, tenant=tenant, num_prompt=body.num_prompt, num_answer_max=body.num_answer_max,
        needs=body.needs, route=body.model,
        ttft_s=None if deadline.ttft_at is None else deadline.ttft_at - now, itl_s=deadline.itl_s,
        total_s=deadline.total_at - now if is_dated else None, cost_usd=deadline.cost_usd, quality=deadline.quality,
        scope=deadline.scope, strict=deadline.strict, is_dated=is_dated,
    )  # fmt: skip


async def _end(call: Call, body: ChatBody, exchange: RelayExchange) -> None:
    """The stream's last events: the usage that the caller asked for, and what became of the answer beside it."""
    if not body.is_streamed:
        return
    ending = exchange.ending_seen
    if ending is None:
        raise Unreachable("The answer ended before its end.", fix="Ask again.")
    if body.wants_usage and ending.usage_frame:
        last = _with_route(ending.usage_frame.rstrip(), exchange.route) + b"\n\n"
    else:
        last = b": isochrone %s\n\n" % msgspec.json.encode(route_fields(exchange.route)) if exchange.route else b""
    await call.end_stream(last)


def _with_route(data: bytes, route: Route | None) -> bytes:
    """A JSON object (the end of these bytes) with the member `isochrone` put in last."""
    if route is None or not data.endswith(b"}") or data.endswith(b"{}"):
        return data
    return data[:-1] + b',"isochrone":{"route":%s}}' % msgspec.json.encode(route_fields(route))


__all__ = ["Carried", "Carrier", "MakeExchange", "Relay", "ask_of"]
