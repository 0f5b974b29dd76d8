"""`POST /v1/chat/completions` over a fleet: the caller's bytes to the place that is chosen, its bytes to the caller.

    body -> what the choice needs of it -> the router (choice, hedges, failover) -> pieces -> the caller
                                                                           the ending: what became of it
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING

import msgspec

from isochrone.errors import Unreachable
from isochrone.places.place import Request
from isochrone.places.route import Route
from isochrone.routing.router import Router

from .answer_facts import route_fields
from .call import Call
from .cost import cost_of
from .deadlines import deadline_of
from .guard import Used
from .meter import Meter
from .openai_chat import PARSER, to_request
from .relay_body import ChatBody, expect_bounds, read_body
from .relay_exchange import Doors, RelayExchange
from .relay_frames import Piece

if TYPE_CHECKING:
    from .app import Gateway


class Relay:
    """The handler of chats where places are chosen."""

    def __init__(self, router: Router, doors: Doors) -> None:
        self._router, self._doors = router, doors

    async def answer(self, gateway: Gateway, call: Call) -> None:
        """Handle the route."""
        raw = await call.body()
        body = read_body(raw)
        limits = gateway.limits
        expect_bounds(body, num_messages_max=limits.num_messages, num_answers_max=limits.num_answers)
        gateway.expect_model(body.model)
        deadline, is_dated = deadline_of(call, body.budget)

        def in_our_words() -> Request:
            return to_request(PARSER.parse(raw), id=call.id, tenant=call.tenant, limits=limits, dated=is_dated)

        async def work(meter: Meter) -> None:
            request = body.request(call.id, call.tenant, dated=is_dated, run=call.run)
            request, journey = self._router.journey(request, deadline)
            exchange = RelayExchange(
                body, in_our_words, self._doors, journey.find, journey.route, self._router.draw_seed(),
                is_dated=request.dated,
            )  # fmt: skip
            pieces = self._router.execute(exchange, journey, is_dated=request.dated)
            assert call.trace is not None, "the gateway makes a trace before it lets a call generate"
            call.trace.begin(request, journey.deadline)
            with gateway.place.reserving(call.tenant, cost_of(request, None)) as used:
                async with gateway.place.paying(call.trace, request, journey.cost_usd), aclosing(pieces):
                    await _pass_on(call, body, exchange, pieces, meter, used)
            await _end(call, body, exchange)

        await gateway.generate(call, work)


async def _pass_on(
    call: Call, body: ChatBody, exchange: RelayExchange, pieces: AsyncGenerator[Piece, None], meter: Meter, used: Used
) -> None:
    """Each piece to the caller as it comes, counted."""
    trace = call.trace
    assert trace is not None, "the gateway makes a trace before it lets a call generate"
    async for piece in pieces:
        now = time.monotonic()
        used.num_tokens += piece.num_frames
        meter.count(piece.num_frames, now)
        trace.count(piece.num_frames, now)
        trace.route = exchange.route
        if piece.ending is not None:
            used.num_tokens = meter.settle(piece.ending.usage)
            trace.settle(piece.ending.usage, piece.ending.finish_reason, now)
        if not body.is_streamed:
            await call.respond(_with_route(piece.data, trace.route))
        elif piece.data:
            await call.stream(piece.data)


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


__all__ = ["Relay"]
