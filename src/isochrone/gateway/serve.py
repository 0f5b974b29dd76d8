"""From settings to a listening server and back: bind, start the engine, listen, drain, stop.

The socket is bound first, so that an error about the port comes at once and early callers wait in the kernel's queue;
then the engine's process is started, and while it loads the model this process imports its HTTP server.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from isochrone.errors import BadConfig, IsochroneError
from isochrone.ledger import Keyring, Ledger
from isochrone.places.place import Place

from .access import Access
from .limits import Limits
from .logs import Log, set_up

if TYPE_CHECKING:
    from .app import Gateway
    from .fleet_face import FleetFace
    from .meter import Predictor

log = Log("gateway")
KEYS_EVERY_S = 2.0


@dataclass(frozen=True, slots=True)
class Serving:
    """How to serve.

    api_key      one key that may do everything, beside those of the ledger
    ledger_path  file of the ledger, or the URL of its database; None keeps one until the server stops
    drain_s      what running requests get to finish after the first SIGTERM
    """

    host: str = "127.0.0.1"
    port: int = 8400
    api_key: str | None = None
    ledger_path: Path | str | None = None
    drain_s: float = 30.0
    log_level: str = "info"
    limits: Limits = field(default_factory=Limits)


class Startable(Place, Protocol):
    """A place with something to start."""

    async def start(self) -> None:
        """Returns when it can answer; raises what made that impossible."""
        ...


def serve(
    place: Startable,
    serving: Serving,
    *,
    predictor: Predictor | None = None,
    on_listening: Callable[[str], None] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; a second one stops at once.

    on_listening  called with the URL as soon as requests can come (they wait until the model is loaded)

    Raises BadConfig when the address cannot be used, and what `place.start` raises when the model cannot be loaded.
    """
    ledger = Ledger(serving.ledger_path)
    ledger.open(time.monotonic())
    try:
        access = Access(serving.host, serving.api_key, ledger.keys)
        listener = bind(serving.host, serving.port)
        with listener, asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(
                serve_on(
                    listener, place, access, serving, ledger, predictor=predictor, on_listening=on_listening
                )
            )
    finally:
        ledger.close()


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens there.  Raises BadConfig, which says what is in the way."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise BadConfig(f"{host} is no address of this machine: {error}.", fix="Use 127.0.0.1 or 0.0.0.0.") from error
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setblocking(False)
    try:
        listener.bind(address)
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise _bind_error(host, port, error) from error
    return listener


def _bind_error(host: str, port: int, error: OSError) -> BadConfig:
    if error.errno == errno.EADDRINUSE:
        return BadConfig(
            f"Port {port} of {host} is in use by another process.",
            fix="Stop that process, or take another port: --port, and --port 0 takes a free one.",
        )
    if error.errno == errno.EACCES:
        return BadConfig(f"Port {port} is reserved for the administrator.", fix="Take a port above 1023 with --port.")
    return BadConfig(f"{host}:{port} cannot be listened on: {error.strerror}.", fix="Use another --host or --port.")


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Of the fastest loop that is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


async def serve_on(
    listener: socket.socket,
    place: Startable,
    access: Access,
    serving: Serving,
    ledger: Ledger,
    *,
    predictor: Predictor | None = None,
    fleet: FleetFace | None = None,
    on_listening: Callable[[str], None] | None = None,
) -> None:
    """`serve`, on a socket and a loop that exist, with a ledger that is open."""
    set_up(serving.log_level)
    starting = asyncio.ensure_future(place.start())
    watching = asyncio.gather(watch_keys(ledger.keys), keep_spending(ledger))
    await asyncio.sleep(0)  # the engine's process starts here, beside the imports below
    stopping = Stopping(serving.drain_s)
    try:
        with stopping.signals():
            if on_listening is not None:
                on_listening(url_of(listener))
            gateway, server = _server(place, access, serving, ledger, predictor, fleet)
            stopping.attach(gateway, server, starting)
            log.info("gateway.listening", url=url_of(listener), needs_key=access.is_guarded)
            await server.serve(sockets=[listener])
    finally:
        starting.cancel()
        watching.cancel()
        await asyncio.gather(starting, watching, return_exceptions=True)
        await place.close()
    log.info("gateway.stopped")
    if not starting.cancelled():
        starting.result()


def url_of(listener: socket.socket) -> str:
    """Where a client on this machine reaches it."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def watch_keys(keys: Keyring, every_s: float = KEYS_EVERY_S) -> None:
    """Read the keys again and again, so that a new one opens and a revoked one closes within five seconds.

    While they cannot be read, they stay as they were, which is said once.
    """
    was_read = True
    while True:
        await asyncio.sleep(every_s)
        try:
            await keys.refresh(time.monotonic())
            if not was_read:
                log.warning("keys.read_again")
            was_read = True
        except IsochroneError:  # locked, or written by an Isochrone that knows other scopes
            if was_read:
                log.error("keys.unread", since_s=round(time.monotonic() - keys.refreshed_at, 1))
            was_read = False


async def keep_spending(ledger: Ledger, every_s: float = KEYS_EVERY_S) -> None:
    """Keep what keys may spend, as soon as a key has such a limit."""
    while not any(key.has_spending_limit for key in ledger.keys.all()):
        await asyncio.sleep(every_s)
    await ledger.spending.keep()


def _server(
    place: Place, access: Access, serving: Serving, ledger: Ledger, predictor: Predictor | None,
    fleet: FleetFace | None,
) -> tuple[Gateway, Any]:
    from uvicorn.config import Config
    from uvicorn.server import Server

    from .app import Gateway
    from .protocol import protocol_class

    gateway = Gateway(place, access, ledger, limits=serving.limits, predictor=predictor, fleet=fleet)

    class SignalFreeServer(Server):
        """Signals are ours: a drain must go on answering `/health` and `/ready`."""

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    config = Config(
        gateway,
        http=protocol_class(serving.limits),
        interface="asgi3",
        lifespan="off",
        loop="none",
        ws="none",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=int(serving.limits.idle_s),
        timeout_graceful_shutdown=1,
    )
    return gateway, SignalFreeServer(config)


class Stopping:
    """Serving -> draining -> stopped: the first signal drains, the second (or the drain's end) stops."""

    _gateway: Gateway
    _server: Any

    def __init__(self, drain_s: float) -> None:
        self._drain_s = drain_s
        self._drain: asyncio.Task[None] | None = None

    def attach(self, gateway: Gateway, server: Any, starting: asyncio.Future[None]) -> None:
        """What to stop.  Must come before the loop next turns, since signals come through the loop."""
        self._gateway, self._server = gateway, server
        starting.add_done_callback(self._on_started)

    @contextlib.contextmanager
    def signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT come here for as long as this is open; elsewhere than in the main thread, none do."""
        loop = asyncio.get_running_loop()
        taken = []
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(ValueError, RuntimeError):
                loop.add_signal_handler(number, self._on_signal)
                taken.append(number)
        try:
            yield
        finally:
            for number in taken:
                loop.remove_signal_handler(number)
            if self._drain is not None:
                self._drain.cancel()

    def _on_signal(self) -> None:
        if self._drain is None:
            self._drain = asyncio.ensure_future(self._drain_then_stop())
        else:
            log.warning("gateway.stopping", in_flight=self._gateway.num_in_flight)
            self._drain.cancel()
            self._stop()

    def _on_started(self, starting: asyncio.Future[None]) -> None:
        """The model is loaded, or cannot be: then there is nothing to serve."""
        if starting.cancelled():
            return
        error = starting.exception()
        if error is None:
            log.info("gateway.ready")
        else:
            log.error("gateway.failed", error=str(error))
            self._stop()

    async def _drain_then_stop(self) -> None:
        log.info("gateway.draining", in_flight=self._gateway.num_in_flight, drain_s=self._drain_s)
        if not await self._gateway.drain(self._drain_s):
            log.warning("gateway.drain_late", in_flight=self._gateway.num_in_flight)
        self._stop()

    def _stop(self) -> None:
        self._gateway.abort_all()
        self._server.should_exit = True
