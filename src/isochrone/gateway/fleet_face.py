"""What a gateway over a fleet answers beyond what one over a single model does.

    POST /v1/route                          where a chat would go now, and why: nothing is sent
    GET  /v1/places                         the places, their models and how they do
    GET  /v1/explain/{id}                   why a request of this caller went where it went
    POST /v1/fleet/join|drain|leave         nodes that announce themselves, with the fleet's token
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from isochrone.budget import Policy
from isochrone.errors import IsochroneError, NoPlace, NotFound
from isochrone.ledger import decisions_of
from isochrone.places.place import Status
from isochrone.predict.calibration import LEVELS
from isochrone.routing.journal import read, read_attempt
from isochrone.routing.records import Ask, Decision
from isochrone.routing.router import Router

from .agent_runs import HEADER, run_of
from .call import Call
from .deadlines import deadline_of
from .relay_body import expect_bounds, read_body
from .relaying import Relay

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

    from .app import Gateway

FLEET_PATH, EXPLAIN_PATH = "/v1/fleet/", "/v1/explain/"
ROUTED = Policy(is_routed=True)


class Announcing(Protocol):
    """Where nodes announce themselves; `routing.fleet.Door` is one."""

    async def handle(self, action: str, authorization: bytes, body: bytes) -> dict[str, object]: ...


class FleetFace:
    """router  chooses among the places;  relay: answers chats;  announcing: None, no node can join

    policy  what the operator asks of every request now
    tracer  what each answer's trace is made with; None: nobody receives them
    """

    def __init__(
        self, router: Router, relay: Relay, *, announcing: Announcing | None = None,
        policy: Callable[[], Policy] = lambda: ROUTED, tracer: Tracer | None = None,
    ) -> None:  # fmt: skip
        self.tracer = tracer
        self.router, self.relay, self.announcing, self._policy = router, relay, announcing, policy

    @property
    def policy(self) -> Policy:
        return self._policy()

    async def begin_run(self, call: Call) -> None:
        """The run that a call is a step of goes on.  Raises BadRequest and LedgerDown."""
        said = run_of(call.headers[HEADER])
        await self.router.runs.begin(
            call.tenant, said.id, workflow=said.workflow, total_s=said.total_s, cost_usd=said.cost_usd
        )

    def calibration(self) -> list[tuple[str, int, dict[float, int]]]:
        """(ttft or total, how often one was stated, how often each quantile was kept) since the start."""
        outlook = self.router.outlook
        return [
            (of, coverage.num_seen, dict(zip(LEVELS, coverage.kept, strict=True)))
            for of, coverage in (("ttft", outlook.ttft_coverage), ("total", outlook.total_coverage))
        ]

    async def announce(self, call: Call) -> None:
        """A node joins, drains or leaves.  Its token is checked where its body is read, not at the gate of callers."""
        if self.announcing is None:
            raise NotFound("No node can join this fleet.", fix="Give it a token: token_env under [gateway].")
        if call.method != "POST":
            raise NotFound("Nodes post to join, drain or leave.", fix="Use POST.")
        action = call.path.removeprefix(FLEET_PATH)
        said = await self.announcing.handle(action, call.headers.get(b"authorization", b""), await call.body())
        await call.respond(msgspec.json.encode(said))


async def route(gateway: Gateway, call: Call) -> None:
    """The decision on a chat's body, with its table: 200 whether or not any place could answer."""
    router = _router(gateway)
    body = read_body(await call.body())
    limits = gateway.limits
    expect_bounds(body, num_messages_max=limits.num_messages, num_answers_max=limits.num_answers)
    gateway.expect_model(body.model)
    deadline, is_dated = deadline_of(call, body.budget)
    request = body.request(call.id, call.tenant, dated=is_dated, run=call.run)
    ask, decision = router.decide(request, deadline)
    await call.respond(msgspec.json.encode(decision_fields(ask, decision)))


async def places(gateway: Gateway, call: Call) -> None:
    """Every place with its models."""
    await call.respond(msgspec.json.encode({"object": "list", "data": place_rows(_router(gateway))}))


async def explain(gateway: Gateway, call: Call) -> None:
    """The decisions and attempts of one of this caller's requests, as `isochrone explain` shows them."""
    id = call.path.removeprefix(EXPLAIN_PATH)
    decided, attempts = await asyncio.to_thread(decisions_of, gateway.ledger.path, id)
    own = [record for record in decided if record.owner == call.tenant]
    if not own:
        raise NotFound(f"There is no decision on a request {id[:80]}.", fix="Name an answer's x-request-id.")
    rows = []
    for record in own:
        ask, decision = read(record.body)
        rows.append({"at": record.at} | decision_fields(ask, decision))
    sent = [msgspec.to_builtins(read_attempt(one.body)) for one in attempts if one.owner == call.tenant]
    await call.respond(msgspec.json.encode({"id": id, "decisions": rows, "attempts": sent}))


def _router(gateway: Gateway) -> Router:
    assert gateway.fleet is not None, "these handlers are reached through a fleet alone"
    return gateway.fleet.router


def decision_fields(ask: Ask, decision: Decision) -> dict[str, Any]:
    """A decision as JSON: seconds, US dollars and probabilities."""
    chosen = None if decision.chosen is None else {"place": decision.chosen[0], "model": decision.chosen[1]}
    refusal: IsochroneError | None = None
    if chosen is None:
        refusal = NoPlace("No place can answer this as it is asked.", fix="See the verdicts.", retry_after_s=1.0)
    asked = {name: value for name, value in msgspec.to_builtins(ask).items() if name != "tenant"}
    return {
        "object": "route",
        "chosen": chosen,
        "code": refusal.code if refusal else None,
        "order": [{"place": place, "model": model} for place, model in decision.order],
        "candidates": msgspec.to_builtins(decision.rows),
        "propensity": decision.propensity,
        "is_exploring": decision.is_exploring,
        "policy": decision.policy,
        "ask": asked | {"needs": sorted(ask.needs)},
    }


def place_rows(router: Router) -> list[dict[str, Any]]:
    """The fleet's places as JSON."""
    return [
        {
            "name": name, "location": member.place.location, "continues": member.place.continues,
            "round_trip": msgspec.to_builtins(router.fleet.network(name)),
        } | _status_fields(member.place.status())
        for name, member in router.fleet.members.items()
    ]  # fmt: skip


def _status_fields(status: Status) -> dict[str, Any]:
    load = status.load
    models = [
        {"id": model.id, "context": model.context, "abilities": list(model.abilities), "quality": model.quality,
         "price": msgspec.to_builtins(model.price)}
        for model in status.models
    ]  # fmt: skip
    return {
        "state": status.state, "why": status.why, "num_waiting": load.num_waiting, "num_running": load.num_running,
        "models": models,
    }  # fmt: skip
