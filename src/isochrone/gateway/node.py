"""`/v1/node/…`: what another gateway asks of this one, in the records of places instead of a vendor's dialect.

The tenant that the other gateway names keeps its own prefixes here: behind this key's name, so that no two gateways
share one, and charged to this key.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING

import msgspec

from isochrone import __version__
from isochrone.errors import BadRequest, IsochroneError
from isochrone.places.isochrone_wire import Node, decode_asked, encode_event, encode_fault, encode_node
from isochrone.places.place import Chat, Delta, Prompted, Request, Status

from .call import Call
from .deadlines import within
from .faults import Dialect
from .fields import NUM_TOP_MAX
from .guard import TENANT_MARK
from .limits import Limits
from .meter import Meter

if TYPE_CHECKING:
    from .app import Gateway

LINES = b"application/x-ndjson"
NAME_CHARS_MAX = 200
NUM_TOKENS_MAX = 1 << 31


def _fault(error: IsochroneError, id: str) -> bytes:
    return encode_fault(error)


DIALECT = Dialect(_fault, _fault)


async def complete(gateway: Gateway, call: Call) -> None:
    """Handle `POST /v1/node/complete`."""
    asked = decode_asked(await call.body())
    request = asked.request
    gateway.expect_model(request.model)
    expect_within(request, gateway.limits)
    request = msgspec.structs.replace(request, tenant=f"{call.tenant}{TENANT_MARK}{request.tenant}")
    said = asked.left.budget(is_dated=request.dated)
    request = msgspec.structs.replace(request, dated=request.dated or call.policy.budget.total_s is not None)
    events = gateway.place.complete(request, within(said, call, strict=asked.left.strict))
    await gateway.generate(call, lambda meter: _streamed(call, events, meter))


async def _streamed(call: Call, events: AsyncGenerator[Prompted | Delta, None], meter: Meter) -> None:
    async with aclosing(events):
        async for event in events:
            meter.push(event, time.monotonic())
            await call.stream(encode_event(event), kind=LINES)
    await call.end_stream(kind=LINES, mark=b"")


async def status(gateway: Gateway, call: Call) -> None:
    """Handle `GET /v1/node/status`.  The first time, it makes the place read which models elsewhere are the same."""
    gateway.place.identify()
    said = gateway.place.status()
    models = tuple(
        msgspec.structs.replace(model, details=msgspec.structs.replace(model.details, template=""))
        for model in said.models
    )
    node = Node(Status(said.state, models, said.load, said.why, said.pace), __version__, gateway.is_draining)
    await call.respond(encode_node(node))


def expect_within(request: Request, limits: Limits) -> None:
    """The bounds that the other faces set for their bodies.  Raises BadRequest."""
    if not 1 <= request.n <= limits.num_answers:
        raise BadRequest(
            f"n is {request.n}, and this server gives 1 to {limits.num_answers} answers at once.",
            fix="Ask several times.", param="n",
        )  # fmt: skip
    if isinstance(request.prompt, Chat) and len(request.prompt.messages) > limits.num_messages:
        raise BadRequest(
            f"There are {len(request.prompt.messages)} messages, and this server takes {limits.num_messages}.",
            fix="Leave out or sum up the oldest.", param="messages",
        )  # fmt: skip
    for name, bound in (("max_tokens", NUM_TOKENS_MAX), ("num_top", NUM_TOP_MAX)):
        number = getattr(request, name)
        if number is not None and not 0 <= number <= bound:  # what it costs is reckoned from these
            raise BadRequest(f"{name} is not from 0 to {bound}.", fix="Send what is meant.", param=name)
    for name in ("id", "tenant", "run"):
        if len(getattr(request, name)) > NAME_CHARS_MAX:
            raise BadRequest(
                f"{name} is longer than {NAME_CHARS_MAX} characters.", fix="Send a shorter one.", param=name
            )
