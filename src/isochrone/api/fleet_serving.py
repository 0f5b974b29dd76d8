"""A fleet behind the HTTP face: `isochrone up --fleet FILE [MODEL]`.

    the fleet's file and the nodes that announce themselves -> Fleet -> Router -> the gateway, over one ledger

Loaded for a fleet alone: a single model starts without any of this.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import partial
from pathlib import Path

from isochrone.config import Settings, ledger_where
from isochrone.errors import BadConfig
from isochrone.gateway.access import Access
from isochrone.gateway.fleet_face import FleetFace
from isochrone.gateway.logs import Log
from isochrone.gateway.relay_doors import FleetDoors
from isochrone.gateway.relaying import Relay
from isochrone.gateway.serve import Serving, bind, loop_factory, serve_on
from isochrone.gateway.telemetry import tracer_of
from isochrone.ledger import Ledger
from isochrone.places.place import Place
from isochrone.places.spec import PlaceSpec
from isochrone.routing.fleet import Changes, Door, Fleet, FleetFile, Watch, mdns, read_fleet
from isochrone.routing.journal import LedgerJournal
from isochrone.routing.policy import PolicySettings
from isochrone.routing.router import Router
from isochrone.routing.runs import Runs

from .serving import Served, served_model

log = Log("fleet")
OWN_NAME = "local"
"""Of the place that is this machine's own model, unless the fleet file has one of kind `local`."""


class FleetPlace(Router):
    """A router that starts its places as they come, and follows the fleet's file and nodes."""

    watch: Watch
    more_work: tuple[Callable[[], Coroutine[None, None, None]], ...] = ()
    """To be run for as long as the fleet is served."""

    async def start(self) -> None:
        """Start every place; those that are down are waited for.  Returns once one can answer, or all have tried."""
        self._starting: dict[str, asyncio.Task[None]] = {}
        for name in self.fleet.members:
            self._start(name)
        self._following = [asyncio.create_task(work(), name="fleet") for work in (self.watch.run, *self.more_work)]
        with contextlib.suppress(ValueError, RuntimeError):  # elsewhere than in the main thread there are no signals
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._reload)
        pending = set(self._starting.values())
        while pending and self.status().state != "ready":
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()

    def told(self, event: str, facts: dict[str, object]) -> None:
        """What the watch says: into the log, and new places are started."""
        (log.warning if event == "fleet.unchanged" else log.info)(event, **facts)
        if event == "place.added":
            self._start(str(facts["place"]))
        if event == "place.closed" and str(facts["place"]) not in self.fleet.members:  # not one that was replaced
            self._starting.pop(str(facts["place"]), None)
            self.forget(str(facts["place"]))

    def _start(self, name: str) -> None:
        member = self.fleet.members.get(name)
        start = getattr(member.place, "start", None) if member is not None else None
        if member is not None and start is not None:
            self._starting[name] = asyncio.create_task(_start(member.place, start), name=f"start-{name}")

    def _reload(self) -> None:
        self._reloading = asyncio.create_task(self.watch.reload(), name="reload")

    async def close(self) -> None:
        """Stop following, then close the places."""
        tasks = [*getattr(self, "_starting", {}).values(), *getattr(self, "_following", ())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await super().close()


async def _start(place: Place, start: Callable[[], Coroutine[None, None, None]]) -> None:
    """Start it, and let one of ours find out which models elsewhere are the same: their answers go on exactly."""
    await start()
    identify = getattr(place, "identify", None)
    if identify is not None:
        identify()


def serve_fleet(
    file: Path, settings: Settings, *, model: str | None = None, name: str | None = None,
    on_listening: Callable[[str], None] = print, on_licence: Callable[[str], None] = lambda licence: None,
) -> None:  # fmt: skip
    """Serve until SIGTERM or Ctrl-C.

    model  of this machine, to be a place of the fleet beside those of the file;  name: what callers call it
    Raises BadConfig for the fleet file, and what `serve_model` raises.
    """
    found = read_fleet(file)
    own = None if model is None else served_model(model, settings, name=name, on_licence=on_licence)
    serving = Serving(
        host=settings.host, port=settings.port, api_key=settings.api_key, drain_s=settings.drain_s,
        log_level=settings.log_level, ledger_path=ledger_where(settings),
    )  # fmt: skip
    ledger = Ledger(serving.ledger_path)
    ledger.open(time.monotonic())
    try:
        access = Access(serving.host, serving.api_key, ledger.keys)
        listener = bind(serving.host, serving.port)
        with listener, asyncio.Runner(loop_factory=loop_factory()) as runner:

            async def run() -> None:
                place, face, doors = compose(found, file, ledger, own)
                try:
                    await serve_on(listener, place, access, serving, ledger, fleet=face, on_listening=on_listening)
                finally:
                    doors.close()

            calm()
            runner.run(run())
    finally:
        ledger.close()


def calm() -> None:
    """Keep this process's own work from standing in the way of a token.

    What was imported never becomes garbage, so the collector need not look at it each time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)


def compose(
    found: FleetFile, file: Path | None, ledger: Ledger, own: Served | None
) -> tuple[FleetPlace, FleetFace, FleetDoors]:
    """Everything but the socket.  Needs the loop that it will run on.  Raises what building a place raises."""
    factories: dict[str, Callable[[PlaceSpec], Place]] = {}
    if own is not None:
        factories["local"] = lambda spec: own.place
    fleet = OwnFleet(found, factories, own.name if own else "")
    router = FleetPlace(
        fleet, journal=LedgerJournal(ledger.decisions), runs=Runs(ledger.runs, time.monotonic),
        policy=PolicySettings(geography=found.geography),
    )  # fmt: skip
    token = _token(found)
    router.watch = Watch(
        fleet, file=file, nodes=ledger.nodes if token else None, token=token, tell=router.told
    )  # fmt: skip
    doors = FleetDoors(fleet)
    announcing = Door(ledger.nodes, token, found.geography) if token else None
    if announcing is not None and found.mdns:
        seen = mdns.Seen(announcing, token, lambda what: log.warning("node.refused", why=what))
        router.more_work = (partial(mdns.browse, seen, mdns.opened()),)
    face = FleetFace(
        router, Relay(router, doors), announcing=announcing, policy=lambda: fleet.file.policy, tracer=tracer_of()
    )
    return router, face, doors


class OwnFleet(Fleet):
    """A fleet with this machine's model in it, whatever its file says after a reload.  own  its name; empty: none"""

    def __init__(self, file: FleetFile, factories: dict[str, Callable[[PlaceSpec], Place]], own: str) -> None:
        self._own = own
        super().__init__(with_own(file, own), factories)

    def reload(self, file: FleetFile, now: float) -> Changes:
        """See `Fleet.reload`."""
        return super().reload(with_own(file, self._own), now)


def with_own(found: FleetFile, name: str) -> FleetFile:
    """The fleet with this machine's model in it.  name  empty: there is none"""
    if not name or any(spec.kind == "local" for spec in found.places):
        return found
    if any(spec.name == OWN_NAME for spec in found.places):
        raise BadConfig(
            f"The fleet has a place {OWN_NAME}, which is the name of this machine's model {name}.",
            fix="Rename that place, or add a [[place]] of kind local that describes this machine's.",
        )
    return replace(found, places=(*found.places, PlaceSpec(OWN_NAME, "local")))


def _token(found: FleetFile) -> str:
    """With which nodes join; empty when none may.  Raises BadConfig when its variable is not set."""
    if not found.token_env:
        return ""
    token = os.environ.get(found.token_env, "")
    if not token:
        raise BadConfig(
            f"Nodes join with the token in {found.token_env}, which is not set.",
            fix=f"Set {found.token_env} where the gateway runs, or remove token_env from the fleet file.",
        )
    return token
