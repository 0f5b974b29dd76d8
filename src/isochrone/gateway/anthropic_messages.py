"""`POST /v1/messages` and `/v1/messages/count_tokens`: Anthropic's API, over the same request as every other face.

The headers `anthropic-version` and `anthropic-beta` are taken and change nothing: what a request asks for is in its
body, and whatever is there and not offered is refused by name.
"""

from __future__ import annotations

import time
from contextlib import aclosing
from typing import TYPE_CHECKING

import msgspec

from isochrone.budget import Deadline
from isochrone.errors import ContextTooLong, IsochroneError, Overloaded
from isochrone.places.place import Request

from .anthropic_answer import MessageDraft
from .anthropic_fields import COUNT_PARSER, PARSER, CountFields, MessageFields
from .anthropic_request import chat_of, to_request, tools_of
from .call import Call
from .deadlines import deadline_of
from .faults import Dialect
from .meter import Meter
from .trace import current_timing

if TYPE_CHECKING:
    from .app import Gateway

BUSY = 529
"""Anthropic's status for a server that has too much to do; its clients know it and come back."""
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    BUSY: "overloaded_error",
}


async def answer(gateway: Gateway, call: Call) -> None:
    """Handle `/v1/messages`."""
    fields: MessageFields = PARSER.parse(await call.body())
    gateway.expect_model(fields.model)
    deadline, dated = deadline_of(call, fields.budget)
    request = to_request(fields, id=call.id, tenant=call.tenant, limits=gateway.limits, dated=dated)
    await gateway.generate(call, lambda meter: _respond(gateway, call, fields, request, deadline, meter))


async def count_tokens(gateway: Gateway, call: Call) -> None:
    """Handle `/v1/messages/count_tokens`."""
    fields: CountFields = COUNT_PARSER.parse(await call.body())
    gateway.expect_model(fields.model)
    ids = await gateway.place.tokenize(chat_of(fields, gateway.limits, tools_of(fields.tools)))
    await call.respond(msgspec.json.encode({"input_tokens": len(ids)}))


async def _respond(
    gateway: Gateway, call: Call, fields: MessageFields, request: Request, deadline: Deadline, meter: Meter
) -> None:
    try:
        await _draw(gateway, call, fields, request, deadline, meter)
    except ContextTooLong:
        # max_tokens must be given, so clients give more than any context holds: then the answer ends where that does.
        # A prompt that is too long by itself is refused a second time.
        room = msgspec.structs.replace(request, max_tokens=None)
        await _draw(gateway, call, fields, room, deadline, meter)


async def _draw(
    gateway: Gateway, call: Call, fields: MessageFields, request: Request, deadline: Deadline, meter: Meter
) -> None:
    draft = MessageDraft(request, fields)
    async with aclosing(gateway.place.complete(request, deadline)) as events:
        async for event in events:
            meter.push(event, time.monotonic())
            said = draft.push(event)
            if fields.stream and said:
                await call.stream(said)
    if fields.stream:
        await call.end_stream(draft.end(current_timing()), mark=b"")
    else:
        await call.respond(msgspec.json.encode(draft.body(current_timing())))


def _body(error: IsochroneError, id: str) -> bytes:
    status = _status(error)
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    said = {"type": kind, "message": str(error), "code": error.code}
    return msgspec.json.encode({"type": "error", "error": said, "request_id": id})


def _event(error: IsochroneError, id: str) -> bytes:
    return b"event: error\ndata: %s\n\n" % _body(error, id)


def _status(error: IsochroneError) -> int:
    return BUSY if isinstance(error, Overloaded) and error.status == 503 else error.status


DIALECT = Dialect(_body, _event, _status, id_headers=(b"request-id",))
