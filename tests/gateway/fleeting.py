"""A whole gateway over a fleet, on the test's own loop: real sockets, ledger and choice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from isochrone.api.fleet_serving import FleetPlace, compose
from isochrone.gateway.access import Access
from isochrone.gateway.serve import Serving, bind, serve_on, url_of
from isochrone.ledger import Ledger
from isochrone.places.web import Web
from isochrone.routing.fleet import read_fleet


@dataclass
class Gateway:
    """One that runs.  file  its fleet file, which may be written anew"""

    url: str
    place: FleetPlace
    file: Path
    ledger: Ledger

    async def send(
        self, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """(status, headers, body) of a POST, or of a GET without a body."""
        web = Web("gateway", self.url, headers or {})
        try:
            answer = await (web.post(path, body, None) if body else web.get(path, 10.0))
            return answer.status, {k.lower(): v for k, v in answer.headers.items()}, await answer.all()
        finally:
            await web.close()


def fleet_text(ports: dict[str, int], *, model: str = "m", more: str = "") -> str:
    """A fleet file with a place of kind openai at each port, all serving one model."""
    places = (
        f'[[place]]\nname = "{name}"\nkind = "openai"\nurl = "http://127.0.0.1:{port}/v1"\n'
        f'[[place.model]]\nid = "{model}"\nupstream = "theirs"\ncontext = 8192\n'
        for name, port in ports.items()
    )
    return more + "\n".join(places)


@asynccontextmanager
async def gateway_over(folder: Path, text: str) -> AsyncIterator[Gateway]:
    """A gateway for as long as this is open."""
    file = folder / "fleet.toml"
    file.write_text(text)
    ledger = Ledger(folder / "ledger.db")
    ledger.open(time.monotonic())
    listener = bind("127.0.0.1", 0)
    place, face, doors = compose(read_fleet(file), file, ledger, None)
    serving = Serving(port=0, log_level="critical", drain_s=0.1)
    work = asyncio.ensure_future(
        serve_on(listener, place, Access("127.0.0.1", None, ledger.keys), serving, ledger, fleet=face)
    )
    try:
        yield Gateway(url_of(listener), place, file, ledger)
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        doors.close()
        listener.close()
        ledger.close()
