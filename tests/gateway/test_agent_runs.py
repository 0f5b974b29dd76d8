"""The header of an agent's run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.budget import Budget, Deadline
from isochrone.errors import BadRequest
from isochrone.gateway.agent_runs import RunSaid, run_of
from isochrone.gateway.fleet_face import FleetFace
from isochrone.gateway.guard import Guard
from isochrone.gateway.limits import Limits
from isochrone.gateway.rates import Rates
from isochrone.gateway.trace import CURRENT, Trace
from isochrone.places.place import Delta, Request, Text
from isochrone.routing.members import FixedFleet
from isochrone.routing.router import Router
from isochrone.testing.places import ScriptedPlace


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (b"7f3a", RunSaid("7f3a")),
        (b"7f3a, total=90s", RunSaid("7f3a", total_s=90.0)),
        (b" 7f3a ,workflow=research,cost=0.05usd, total=2m", RunSaid("7f3a", "research", 120.0, 0.05)),
    ],
)
def test_a_run_says_its_id_and_what_it_may_take(header: bytes, said: RunSaid) -> None:
    assert run_of(header) == said


@pytest.mark.parametrize(
    ("header", "part"),
    [
        (b"", "no id"),
        (b"total=90s", "no id"),
        (b"a, totl=90s", "Was total meant?"),
        (b"a, total=90s, total=80s", "twice"),
        (b"a, total=soon", "soon"),
        (b"a, total=0s", "above zero"),
        (b"a, cost=1", "1"),
        (b"a" * 600, "longer"),
        (b"a" * 200, "no id"),
    ],
)
def test_what_is_no_run_is_refused_with_an_example(header: bytes, part: str) -> None:
    with pytest.raises(BadRequest, match=r"Isochrone-Run: ID") as caught:
        run_of(header)
    assert part in caught.value.message and caught.value.param == "Isochrone-Run"


@given(st.binary(max_size=600))
def test_no_header_does_more_than_be_refused(header: bytes) -> None:
    try:
        assert run_of(header).id
    except BadRequest:
        pass


async def test_a_step_begins_its_run_once_and_every_face_asks_its_place_within_it() -> None:
    router = Router(FixedFleet([place := ScriptedPlace("a", ["One", " two"])]))
    face = FleetFace(router, relay=None)  # type: ignore[arg-type]
    call: Any = SimpleNamespace(headers={b"isochrone-run": b"r, total=60s, cost=0.5usd"}, tenant="t")
    await face.begin_run(call)
    guard = Guard(router, Limits(), Rates())
    trace = Trace(0.0)
    trace.run = "r"
    token = CURRENT.set(trace)
    try:
        deadline = Deadline.start(Budget(), router.clock())
        async for event in guard.complete(Request("1", "m", "t", Text("Count."), max_tokens=9), deadline):
            last = event
    finally:
        CURRENT.reset(token)
    run = router.runs.find("t", "r")
    assert run is not None and run.num_steps == 1
    assert isinstance(last, Delta) and last.route is not None and last.route.run is not None
    assert last.route.run.total_s is not None and 0.0 < last.route.run.total_s <= 60.0
    assert place.requests[0].run == "r" and place.requests[0].dated and router.runs.find("u", "r") is None
