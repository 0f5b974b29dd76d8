"""Nodes found on the local network by multicast DNS, for sites without an address to join at.  Off by default.

A node advertises `_isochrone._tcp.local.` with a proof that it knows the fleet's token; what proves nothing is ignored.
Who is found is written down like any node that joined, and forgotten like one.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from isochrone.errors import BadConfig, IsochroneError, MissingExtra

from .nodes import BEAT_S, Door, Joining

if TYPE_CHECKING:
    from zeroconf.asyncio import AsyncZeroconf

SERVICE = "_isochrone._tcp.local."
ASK_MS = 2000


def proof_of(token: str, name: str, url: str, location: str) -> str:
    """What a node shows that knows the token.  It holds for this very name, address and location."""
    said = "\n".join(("isochrone mdns", name, url, location)).encode()
    return hmac.new(token.encode(), said, hashlib.sha256).hexdigest()


def properties_of(said: Joining, token: str) -> dict[str, str]:
    """What a node advertises."""
    proof = proof_of(token, said.name, said.url, said.location)
    return {"name": said.name, "url": said.url, "location": said.location, "proof": proof}


def joining_of(properties: Mapping[bytes, bytes | None], token: str) -> Joining | None:
    """The node that advertises this; None for one that does not know the token, or says nothing of use."""
    try:
        text = {key.decode(): (value or b"").decode() for key, value in properties.items()}
        name, url, location, proof = (text[key] for key in ("name", "url", "location", "proof"))
    except (KeyError, UnicodeDecodeError):
        return None
    if not hmac.compare_digest(proof.encode(), proof_of(token, name, url, location).encode()):
        return None
    return Joining(name, url, location)


async def advertise(said: Joining, token: str, stop: asyncio.Event, zeroconf: AsyncZeroconf) -> None:
    """Until `stop` is set; then close that access to the network.  Raises BadConfig."""
    from zeroconf import ServiceInfo

    host, port = address_of(said.url)
    info = ServiceInfo(
        SERVICE, f"{said.name}.{SERVICE}", port=port, addresses=[host],
        properties=dict(properties_of(said, token)),
    )  # fmt: skip
    try:
        await zeroconf.async_register_service(info)
        await stop.wait()
        await zeroconf.async_unregister_service(info)
    finally:
        await zeroconf.async_close()


def address_of(url: str) -> tuple[bytes, int]:
    """(IP address, port) of a node.  Raises BadConfig for one that others on the network cannot use."""
    parts = urlsplit(url)
    try:
        address = ipaddress.ip_address(parts.hostname or "")
    except ValueError:
        address = None
    if address is None or address.is_loopback or address.is_unspecified:
        raise BadConfig(
            f"{url} tells nobody on the network where this node is.",
            fix="Name its address on the local network: --node http://10.0.0.7:8400.",
        )
    return address.packed, parts.port or (443 if parts.scheme == "https" else 80)


class Seen:
    """What is advertised now, by the service's name; those that prove themselves are let join at each beat."""

    def __init__(self, door: Door, token: str, tell: Callable[[str], None]) -> None:
        self._door, self._token, self._tell = door, token, tell
        self._found: dict[str, Joining] = {}
        self._refused: dict[str, str] = {}

    def found(self, service: str, properties: Mapping[bytes, bytes | None]) -> None:
        """It is advertised so."""
        said = joining_of(properties, self._token)
        if said is None:
            self._found.pop(service, None)
        else:
            self._found[service] = said

    def lost(self, service: str) -> None:
        """It is advertised no more."""
        self._found.pop(service, None)

    async def beat(self) -> None:
        """Say for each node that it is there.  What the fleet does not take is told once."""
        for said in list(self._found.values()):
            try:
                await self._door.handle("join", f"Bearer {self._token}".encode(), msgspec.json.encode(said))
                self._refused.pop(said.name, None)
            except IsochroneError as error:
                if self._refused.get(said.name) != str(error):
                    self._refused[said.name] = str(error)
                    self._tell(f"{said.name}, found on the network, does not join: {error}")


async def browse(
    seen: Seen, zeroconf: AsyncZeroconf, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> None:
    """Keep what is seen up to date until it is cancelled, then close that access to the network."""
    from zeroconf import ServiceStateChange
    from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo

    changed: asyncio.Queue[tuple[str, bool]] = asyncio.Queue()

    def on_change(*, name: str, state_change: ServiceStateChange, **_: Any) -> None:
        changed.put_nowait((name, state_change is not ServiceStateChange.Removed))

    async def look() -> None:
        while True:
            name, is_there = await changed.get()
            if not is_there:
                seen.lost(name)
                continue
            info = AsyncServiceInfo(SERVICE, name)
            if await info.async_request(zeroconf.zeroconf, ASK_MS):
                seen.found(name, info.properties)

    browser = AsyncServiceBrowser(zeroconf.zeroconf, SERVICE, handlers=[on_change])
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(look())
            while True:
                await seen.beat()
                await sleep(BEAT_S)
    finally:
        await browser.async_cancel()
        await zeroconf.async_close()


def opened() -> AsyncZeroconf:
    """This machine's access to multicast DNS.  Needs a running loop.  Raises MissingExtra."""
    try:
        from zeroconf.asyncio import AsyncZeroconf
    except ImportError:
        raise MissingExtra("Finding nodes by mDNS needs zeroconf.", fix="pip install 'isochrone[mdns]'") from None
    return AsyncZeroconf()
