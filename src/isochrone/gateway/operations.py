"""What operators and routers ask: is it alive, does it take requests, what is it, how does it do.

`/health` and `/livez` say that this process lives and answers, nothing else: restart it when this fails.  `/ready` says
whether to send requests: 503 while the model loads, while the engine restarts, after it failed, and from SIGTERM on.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from isochrone import __version__
from isochrone.places.place import Model

from . import metrics as pages
from .call import Call

if TYPE_CHECKING:
    from .app import Gateway


async def health(gateway: Gateway, call: Call) -> None:
    await call.respond(b'{"status":"alive"}')


async def ready(gateway: Gateway, call: Call) -> None:
    status = gateway.place.status()
    state = "draining" if gateway.is_draining else status.state
    facts = {"status": state} | ({"why": status.why} if status.why else {})
    await call.respond(msgspec.json.encode(facts), status=200 if state == "ready" else 503)


async def version(gateway: Gateway, call: Call) -> None:
    await call.respond(msgspec.json.encode({"version": __version__}))


async def metrics(gateway: Gateway, call: Call) -> None:
    now = pages.gauges(
        gateway.place.status(), gateway.ledger.stats(), num_in_flight=gateway.num_in_flight,
        reserved_bytes=gateway.place.reserved_bytes, num_tasks=len(asyncio.all_tasks()),
        is_draining=gateway.is_draining,
    )  # fmt: skip
    gateway.metrics.spending_refused.set(gateway.ledger.num_spending_refused)
    if gateway.fleet is not None:
        for of, num_stated, kept in gateway.fleet.calibration():
            gateway.metrics.calibrate(of, num_stated, kept)
    await call.respond(gateway.metrics.page(now), kind=pages.CONTENT_TYPE)


async def models(gateway: Gateway, call: Call) -> None:
    data = [_model(model) for model in gateway.place.status().models]
    await call.respond(msgspec.json.encode({"object": "list", "data": data}))


async def model(gateway: Gateway, call: Call) -> None:
    id = call.path.removeprefix("/v1/models/")
    await call.respond(msgspec.json.encode(_model(gateway.expect_model(id))))


def _model(model: Model) -> dict[str, str | int | None]:
    """As OpenAI lists it; `max_model_len` as vLLM adds it."""
    return {
        "id": model.id, "object": "model", "created": model.created_at, "owned_by": model.owner,
        "max_model_len": model.context,
    }  # fmt: skip
