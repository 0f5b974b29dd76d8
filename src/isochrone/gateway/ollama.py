"""Ollama's API, for the programs that speak only that: `/api/chat`, `generate`, `tags`, `show`, `ps`, `version`.

What manages models (`pull`, `push`, `create`, `copy`, `delete`) is not here: models are the command line's business.
"""

from __future__ import annotations

import time
from contextlib import aclosing
from typing import TYPE_CHECKING

import msgspec

from isochrone import __version__
from isochrone.budget import Deadline
from isochrone.errors import BadRequest, IsochroneError
from isochrone.places.place import Model, Request

from .call import Call
from .deadlines import deadline_of
from .faults import Dialect
from .meter import Meter
from .ollama_answer import Body, Draft, Face, instant, loaded
from .ollama_fields import (
    CHAT_PARSER,
    GENERATE_PARSER,
    LATEST,
    SHOW_PARSER,
    ChatFields,
    CommonFields,
    GenerateFields,
    ShowFields,
    expect_honoured,
)
from .ollama_request import chat_request, generate_request
from .trace import current_timing

if TYPE_CHECKING:
    from .app import Gateway

LINES = b"application/x-ndjson"
NEVER = "9999-12-31T23:59:59Z"
"""When a model is unloaded that is served for as long as the server runs."""


async def chat(gateway: Gateway, call: Call) -> None:
    """Handle `/api/chat`."""
    fields: ChatFields = CHAT_PARSER.parse(await call.body())
    _expect(gateway, fields)
    deadline, dated = deadline_of(call, fields.budget)
    request = chat_request(fields, id=call.id, tenant=call.tenant, limits=gateway.limits, dated=dated)
    if not fields.messages:
        return await call.respond(loaded("chat", fields.model))
    await _answer(gateway, call, "chat", fields, request, deadline)


async def generate(gateway: Gateway, call: Call) -> None:
    """Handle `/api/generate`."""
    fields: GenerateFields = GENERATE_PARSER.parse(await call.body())
    _expect(gateway, fields)
    deadline, dated = deadline_of(call, fields.budget)
    request = generate_request(fields, id=call.id, tenant=call.tenant, dated=dated)
    if not fields.prompt:
        return await call.respond(loaded("generate", fields.model))
    await _answer(gateway, call, "generate", fields, request, deadline)


async def tags(gateway: Gateway, call: Call) -> None:
    """Handle `/api/tags`."""
    await call.respond(msgspec.json.encode({"models": [_listed(model) for model in gateway.place.status().models]}))


async def ps(gateway: Gateway, call: Call) -> None:
    """Handle `/api/ps`: what is served is loaded, and stays so."""
    status = gateway.place.status()
    running = [
        _listed(model) | {"expires_at": NEVER, "size_vram": 0, "context_length": model.context}
        for model in status.models
        if status.state == "ready"
    ]
    await call.respond(msgspec.json.encode({"models": running}))


async def show(gateway: Gateway, call: Call) -> None:
    """Handle `/api/show`."""
    fields: ShowFields = SHOW_PARSER.parse(await call.body())
    if not (name := fields.model or fields.name):
        raise BadRequest("The field model is missing.", fix="Add it.", param="model")
    await call.respond(msgspec.json.encode(_shown(_served(gateway, name))))


async def version(gateway: Gateway, call: Call) -> None:
    """Handle `/api/version`."""
    await call.respond(msgspec.json.encode({"version": __version__}))


def _served(gateway: Gateway, name: str) -> Model:
    """Programs write `:latest` behind a name without a tag.  Raises ModelNotFound."""
    return gateway.expect_model(name.removesuffix(LATEST))


def _expect(gateway: Gateway, fields: CommonFields) -> None:
    expect_honoured(fields, _served(gateway, fields.model).context)


async def _answer(
    gateway: Gateway, call: Call, face: Face, fields: CommonFields, request: Request, deadline: Deadline
) -> None:
    draft = Draft(face, request, fields.model, call.arrived_at)

    async def work(meter: Meter) -> None:
        async with aclosing(gateway.place.complete(request, deadline)) as events:
            async for event in events:
                now = time.monotonic()
                meter.push(event, now)
                line = draft.push(event, now)
                if line and fields.is_streamed():
                    await call.stream(line, kind=LINES)
        now, timing = time.monotonic(), current_timing()
        if fields.is_streamed():
            await call.end_stream(draft.last(now, timing), kind=LINES, mark=b"")
        else:
            await call.respond(draft.whole(now, timing))

    await gateway.generate(call, work)


def _listed(model: Model) -> Body:
    return {
        "name": model.id,
        "model": model.id,
        "modified_at": instant(model.created_at),
        "size": model.details.size_bytes or 0,
        "digest": "",
        "details": _details(model),
    }


def _details(model: Model) -> Body:
    number = model.details.num_parameters
    return {
        "parent_model": "",
        "format": "",
        "family": "",
        "families": None,
        "parameter_size": "" if number is None else _number(number),
        "quantization_level": model.details.form,
    }


def _shown(model: Model) -> Body:
    can = {"completion": True, "tools": bool(model.details.template), "thinking": model.details.thinks}
    return {
        "license": model.details.licence,
        "modelfile": f"FROM {model.id}\n",
        "parameters": "",
        "template": model.details.template,
        "details": _details(model),
        "model_info": {
            "general.basename": model.id,
            "general.parameter_count": model.details.num_parameters,
            "isochrone.context_length": model.context,
        },
        "capabilities": [name for name, is_so in can.items() if is_so],
        "modified_at": instant(model.created_at),
    }


def _number(parameters: int) -> str:
    return f"{parameters / 1e9:.1f}B" if parameters >= 1e9 else f"{parameters / 1e6:.1f}M"


def _body(error: IsochroneError, id: str) -> bytes:
    return msgspec.json.encode({"error": str(error), "code": error.code})


def _event(error: IsochroneError, id: str) -> bytes:
    return _body(error, id) + b"\n"


DIALECT = Dialect(_body, _event)
