"""A node announced to a gateway, by plain HTTP from the standard library: a few bytes every few seconds."""

from __future__ import annotations

import asyncio
import signal
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import msgspec

from isochrone.errors import BadConfig, BadRequest, IsochroneError, NotAllowed, NotFound, Unreachable
from isochrone.routing.fleet import mdns
from isochrone.routing.fleet.announce import announce, wait_for
from isochrone.routing.fleet.file import is_url
from isochrone.routing.fleet.nodes import Joining, node_key

REACH_S = 5.0
ANSWER_BYTES_MAX = 1 << 20


def advertise(token: str, name: str, node: str, location: str) -> None:
    """Say on the local network that the node is there, until SIGTERM or Ctrl-C.  Raises BadConfig and MissingExtra."""
    _expect_url(node)
    said = Joining(name, node.rstrip("/"), location)
    mdns.address_of(said.url)

    async def run() -> None:
        await mdns.advertise(said, token, _stopped(), mdns.opened())

    asyncio.run(run())


def join(
    url: str, token: str, name: str, node: str, location: str, *, max_in_flight: int | None, drain_s: float,
    tell: Callable[[str], None],
) -> None:  # fmt: skip
    """Until SIGTERM or Ctrl-C.  Raises BadConfig, NotAllowed, BadRequest."""
    _expect_url(url)
    _expect_url(node)
    said = Joining(name, node.rstrip("/"), location, (), max_in_flight)
    asyncio.run(_join(url.rstrip("/"), token, said, drain_s=drain_s, tell=tell))


async def _join(url: str, token: str, said: Joining, *, drain_s: float, tell: Callable[[str], None]) -> None:
    stop = _stopped()

    async def post(action: str, body: bytes) -> dict[str, Any]:
        return await asyncio.to_thread(_asked, f"{url}/v1/fleet/{action}", token, body)

    async def load() -> int | None:
        try:
            status = await asyncio.to_thread(_asked, f"{said.url}/v1/node/status", node_key(token, said.name), None)
            held = status["status"].get("load") or {}
        except NotAllowed:
            raise
        except (IsochroneError, KeyError, AttributeError):
            return None
        return int(held.get("num_running", 0)) + int(held.get("num_waiting", 0))

    await announce(said, post, load, stop, drain_s=drain_s, tell=tell, wait=wait_for)


def _expect_url(address: str) -> None:
    if not is_url(address):
        raise BadConfig(f"{address!r} is no address of a server.", fix="Write http:// or https:// and a host.")


def _stopped() -> asyncio.Event:
    """Set by SIGTERM and by Ctrl-C."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def _asked(url: str, key: str, body: bytes | None) -> dict[str, Any]:
    """The answer's object.  Raises Unreachable, or the error that was answered."""
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    request = urllib.request.Request(url, data=body, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=REACH_S) as answer:
            found = msgspec.json.decode(answer.read(ANSWER_BYTES_MAX))
    except urllib.error.HTTPError as error:
        raise _refusal(url, error.code, error.read(ANSWER_BYTES_MAX)) from None
    except (OSError, msgspec.MsgspecError) as error:
        raise Unreachable(f"{url} does not answer: {error}.", fix="See whether it runs and is reached.") from error
    if not isinstance(found, dict):
        raise Unreachable(f"{url} answers, but is no gateway of ours.", fix="Name a gateway's address.")
    return found


def _refusal(url: str, status: int, body: bytes) -> IsochroneError:
    """What a gateway said no with, in our words where it is one of ours."""
    try:
        said = str(msgspec.json.decode(body)["error"]["message"])
    except (msgspec.MsgspecError, KeyError, TypeError):
        said = f"It answered {status}."
    kinds: dict[int, type[IsochroneError]] = {400: BadRequest, 401: NotAllowed, 403: NotAllowed, 404: NotFound}
    kind = kinds.get(status, Unreachable)
    return kind(f"{url} refused: {said}", fix="Correct it and join again.")
