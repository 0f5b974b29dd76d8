"""The node's side of joining: say that it is there while it is, then drain, finish and leave."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import msgspec

from isochrone.errors import IsochroneError, NotAllowed, Unreachable

from .nodes import BEAT_S, Joining

Post: TypeAlias = Callable[[str, bytes], Awaitable[dict[str, Any]]]
"""Send a body to `/v1/fleet/ACTION` of the gateway; raises Unreachable, NotAllowed, BadRequest, NotFound."""
Load: TypeAlias = Callable[[], Awaitable["int | None"]]
"""How many requests the node has; None while it does not answer."""
Tell: TypeAlias = Callable[[str], None]


async def announce(
    said: Joining, post: Post, load: Load, stop: asyncio.Event, *, drain_s: float, tell: Tell,
    wait: Callable[[asyncio.Event, float], Awaitable[None]],
) -> None:  # fmt: skip
    """Join and go on saying so until `stop` is set; then no new requests, an end to those that run, and away.

    A node that does not answer is not announced, and so is forgotten by the gateway.  A gateway that does not answer is
    asked again.  wait  returns when the event is set, or so many seconds later
    Raises NotAllowed for a wrong token and BadRequest for what the gateway does not take.
    """
    body, has_joined, beat_s = msgspec.json.encode(said), False, BEAT_S
    while not stop.is_set():
        if await load() is None:
            tell(f"The node at {said.url} does not answer; it is announced when it does.")
        else:
            try:
                answer = await post("join", body)
                beat_s = float(answer.get("beat_s", BEAT_S))
                if not has_joined:
                    tell(f"{said.name} has joined, {answer.get('state', 'live')}.")
                has_joined = True
            except Unreachable as error:
                tell(f"{error.message} It is asked again in {beat_s:g} s.")
        await wait(stop, beat_s)
    if has_joined:
        await _leave(said.name, post, load, drain_s=drain_s, tell=tell, wait=wait)


async def _leave(
    name: str, post: Post, load: Load, *, drain_s: float, tell: Tell,
    wait: Callable[[asyncio.Event, float], Awaitable[None]],
) -> None:  # fmt: skip
    """Drain, wait for what runs, leave.  Whoever cannot be told finds out by the silence."""
    body, never = msgspec.json.encode({"name": name}), asyncio.Event()
    try:
        await post("drain", body)
        tell(f"{name} takes no new requests.")
        waited_s, step_s = 0.0, 0.5
        await wait(never, min(BEAT_S, drain_s))  # gateways look every two seconds
        while waited_s < drain_s and await load():
            await wait(never, step_s)
            waited_s += step_s
        await post("leave", body)
        tell(f"{name} has left.")
    except NotAllowed:
        raise
    except IsochroneError as error:
        tell(f"{error.message} The gateway will notice by itself.")


async def wait_for(event: asyncio.Event, seconds: float) -> None:
    """Until the event is set, or so long."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
