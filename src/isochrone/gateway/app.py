"""The HTTP face as a bare ASGI application: one table of routes, one gate before them, one place where faults end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from isochrone.budget import SINGLE
from isochrone.errors import IsochroneError, NotFound, Overloaded, Unreachable
from isochrone.ledger import Key, Ledger
from isochrone.places.place import Load, Model, Place

from .access import Access
from .call import Call, ClientGone, Receive, Scope, Send
from .faults import MethodNotAllowed, ModelNotFound, RateLimited
from .guard import Guard
from .limits import Limits
from .logs import Log, describe
from .meter import Meter, Predictor
from .metrics import Metrics
from .openai_responses_run import Runs
from .rates import Rates
from .routes import ROUTES, Handler, dialect_of, find_route
from .spending import Purse
from .trace import CURRENT, Trace

if TYPE_CHECKING:
    from .fleet_face import FleetFace

log = Log("gateway")


class Gateway:
    """What `serve` hands to the HTTP server.

    place      where requests are answered, behind the limits
    access     who may ask
    ledger     where what happened is kept, and what is to be kept
    predictor  expected latency, logged and counted beside what happened
    fleet      what there is beyond a single model's;  None: there is but one
    """

    def __init__(
        self, place: Place, access: Access, ledger: Ledger, *, limits: Limits | None = None,
        predictor: Predictor | None = None, fleet: FleetFace | None = None,
    ) -> None:  # fmt: skip
        self.limits = limits or Limits()
        self.rates = Rates()
        self.place = Guard(place, self.limits, self.rates, Purse(ledger))
        self.access, self.ledger, self.predictor, self.fleet = access, ledger, predictor, fleet
        self.metrics = Metrics()
        self._in_flight: set[Call] = set()
        self.runs = Runs()
        self.is_draining = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def num_in_flight(self) -> int:
        """Requests whose answer has not ended."""
        return len(self._in_flight)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"The gateway speaks HTTP, not {scope['type']}.")
        policy = SINGLE if self.fleet is None else self.fleet.policy
        call = Call(scope, receive, send, self.limits, dialect_of(scope["path"]), policy)
        route, methods = find_route(call.path)
        try:
            await self._answer(call, methods)
        except ClientGone:
            self.metrics.hang_ups.add()
        except IsochroneError as error:
            await self._fail(call, error)
        except Exception as error:  # a fault ends at its request, and the caller hears of it
            log.error("request.failed", request=call.id, route=route, **describe(error))
            await self._fail(call, IsochroneError("The server failed on this request.", fix=_report(call.id)))
        finally:
            self.metrics.requests.add(route=route, status=str(call.status or 499))
            self.record(call, route)

    async def _answer(self, call: Call, methods: dict[str, Handler] | None) -> None:
        call.expect_sane_head()
        if self.fleet is not None and call.path.startswith("/v1/fleet/"):
            await self.fleet.announce(call)  # with a token of its own
            return
        caller = self.access.caller(call.path, call.headers)
        call.tenant, call.key = caller.tenant, caller.key
        with self._admitted(call, caller.key):
            await self._route(call, methods)

    async def _route(self, call: Call, methods: dict[str, Handler] | None) -> None:
        if methods is None:
            raise NotFound(f"There is nothing at {call.path[:80]}.", fix=f"Use one of {', '.join(ROUTES)}.")
        handler = methods.get("GET" if call.method == "HEAD" else call.method)
        if handler is None:
            allowed = ", ".join(methods)
            raise MethodNotAllowed(f"{call.path[:80]} does not take {call.method}.", fix=f"Use {allowed}.")
        await handler(self, call)

    @contextmanager
    def _admitted(self, call: Call, key: Key | None) -> Iterator[None]:
        """Within what the key may use, which the answer's head says."""
        if key is None:
            yield
            return
        try:
            self.rates.admit(key, call.arrived_at)
        finally:
            call.more_headers += self.rates.headers(key, call.arrived_at)
        try:
            yield
        finally:
            self.rates.release(key, time.monotonic())

    async def _fail(self, call: Call, error: IsochroneError) -> None:
        if error.status >= 500 and not isinstance(error, Overloaded):
            log.warning("request.refused", request=call.id, status=error.status, code=error.code)
        if isinstance(error, RateLimited):
            self.metrics.rate_limited.add()
        try:
            await call.fail(error)
        except ClientGone:
            self.metrics.hang_ups.add()

    async def generate(self, call: Call, answer: Callable[[Meter], Coroutine[Any, Any, None]]) -> None:
        """Run an answer that takes a slot: counted, refused while draining, cancelled when the caller hangs up."""
        self._expect_room()
        if self.fleet is not None and b"isochrone-run" in call.headers:
            await self.fleet.begin_run(call)
        load = self.place.status().load
        meter = Meter(self.metrics, call.arrived_at, load, self.predictor)
        call.trace = trace = Trace(
            call.arrived_at,
            with_receipts=call.headers.get(b"isochrone-receipt", b"0") not in (b"", b"0"),
            predict=lambda *counts: predict(self.predictor, counts, load),
        )
        trace.run, trace.key = call.run, call.key
        token = CURRENT.set(trace)
        self._in_flight.add(call)
        self._idle.clear()
        try:
            await call.until_hang_up(answer(meter))
        except IsochroneError as error:
            call.code = error.code
            raise
        finally:
            CURRENT.reset(token)
            self._in_flight.discard(call)
            if not self._in_flight:
                self._idle.set()
            facts = meter.close(time.monotonic())
            if trace.route is not None:
                facts |= self.metrics.of_route(trace.route)
            tell = log.info if "predicted_ttft_s" in facts else log.debug
            tell("request.done", request=call.id, status=call.status or 499, **facts)

    def record(self, call: Call, route: str) -> None:
        """Hand what happened to the ledger, once the answer is over."""
        if call.trace is None:
            return
        now, status = time.monotonic(), call.status or 499
        self.ledger.timelines.record(
            call.trace.timeline(id=call.id, owner=call.tenant, route=route, status=status, code=call.code, now=now)
        )
        for receipt in call.trace.receipts:
            self.ledger.receipts.record(call.tenant, call.id, msgspec.json.encode(receipt))
        if self.fleet is not None and self.fleet.tracer is not None:
            from .telemetry import span_of

            span_of(self.fleet.tracer, call, route, time.time(), now)

    def _expect_room(self) -> None:
        if self.is_draining:
            raise Overloaded("This server is shutting down.", fix="Ask another, or again shortly.", retry_after_s=5.0)
        if self.num_in_flight >= self.limits.num_in_flight:
            raise Overloaded(
                f"{self.num_in_flight} requests are being answered, as many as this server holds.",
                fix="Ask again later.", retry_after_s=1.0,
            )  # fmt: skip

    def expect_model(self, name: str) -> Model:
        """The model of that name.  Raises ModelNotFound."""
        served = self.place.status().models
        for model in served:
            if model.id == name:
                return model
        names = " or ".join(model.id for model in served)
        raise ModelNotFound(f"There is no model {name[:80]!r} here.", fix=f"Use {names}.", param="model")

    async def drain(self, seconds: float) -> bool:
        """Take nothing new and let what runs finish.  Returns whether all did."""
        self.is_draining = True
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def abort_all(self) -> None:
        """End every answer with an error that says that this server stops."""
        for call in self._in_flight:
            call.abort(Unreachable("This server is stopping.", fix="Ask another server, or again when it is back."))


def predict(predictor: Predictor | None, counts: tuple[int, int, int], load: Load) -> tuple[float, float] | None:
    """(ttft_s, itl_s) of a request with so many prompt, cached and answer tokens; None without a predictor."""
    if predictor is None:
        return None
    prediction = predictor.predict(*counts, load)
    return prediction.ttft_s, prediction.itl_s


def _report(id: str) -> str:
    return f"Report it with the log lines of request {id}."
