"""HTTP to another place: one pool of kept connections, and no wait without an end.

Closing an answer before its end closes its connection, which is how the other side hears that nobody reads on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from isochrone.errors import BadConfig, DeadlineExceeded, MissingExtra, Unreachable

if TYPE_CHECKING:
    import aiohttp

CONNECT_S = 5.0
"""A host that does not take a connection within this time is down, as far as any budget here goes."""
KEEP_ALIVE_S = 60.0
"""Below the 75 s for which most servers, ours among them, keep a resting connection."""
SILENCE_S = 600.0
"""A connection on which nothing came for so long is dead, whatever the deadline."""
BODY_BYTES_MAX = 4 * 2**20


class Signer(Protocol):
    """Proves with each request who asks, where a key that goes with all of them does not do."""

    async def headers(self, method: str, url: str, headers: dict[str, str], body: bytes) -> dict[str, str]:
        """What to add to a request."""
        ...

    async def recovers(self, error_type: str, message: str, date: str | None) -> bool:
        """Whether what was refused so is worth signing again."""
        ...


class Web:
    """The connections to one place.

    name     of the place, for messages
    url      of the API; paths are put behind it
    headers  that go with every request, its key among them
    signer   adds what proves each request
    clock    monotonic, seconds: on which instants are told
    connect_took_s  the last connection's making, seconds: name, TCP and TLS; None before the first
    round_trip_s    from the last `get` on a connection that stood to its answer's head; None before the first
    """

    def __init__(
        self, name: str, url: str, headers: Mapping[str, str] = {}, *, connect_s: float = CONNECT_S,
        silence_s: float = SILENCE_S, signer: Signer | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        _expect_aiohttp()
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise BadConfig(
                f"The place {name} has the url {url!r}, which is no HTTP address.",
                fix="Write it like http://192.0.2.7:8400 or https://api.example.com/v1.",
            )
        self.name, self.url = name, url.rstrip("/")
        self.connect_took_s: float | None = None
        self.round_trip_s: float | None = None
        self._headers = {"accept-encoding": "identity", **headers}
        self._connect_s, self._silence_s, self._signer, self._clock = connect_s, silence_s, signer, clock
        self._session: aiohttp.ClientSession | None = None

    async def get(self, path: str, within_s: float) -> Answer:
        """The head of the answer; `all` gives its body.  path: behind the url, or an address of its own.

        Raises Unreachable and DeadlineExceeded.
        """
        began_at, last_connect_s = self._clock(), self.connect_took_s
        answer = await self._send("GET", path, b"", began_at + within_s)
        if self.connect_took_s == last_connect_s:  # on a connection that stood
            self.round_trip_s = self._clock() - began_at
        return answer

    async def post(self, path: str, body: bytes, until: float | None, headers: Mapping[str, str] = {}) -> Answer:
        """The head of the answer to a JSON body; its body comes as it is read.

        until  instant on the clock after which nobody waits; None: as long as it may take
        Raises DeadlineExceeded and Unreachable.
        """
        headers = {"content-type": "application/json", **headers}
        return await self._send("POST", path, body, until, headers)

    async def _send(
        self, method: str, path: str, body: bytes, until: float | None, headers: Mapping[str, str] = {}
    ) -> Answer:
        import aiohttp

        reused: dict[str, bool] = {}
        url = path if "://" in path else self.url + path
        headers = await self._signed(method, url, headers, body, until)
        for is_last in (False, True):
            try:
                response = await self._bounded(
                    lambda: self._opened().request(
                        method, url, data=body or None, headers=headers, allow_redirects=False,
                        timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect_s),
                        trace_request_ctx=reused,
                    ),
                    until,
                )  # fmt: skip
                return Answer(self, response, until)
            except (aiohttp.ServerDisconnectedError, ConnectionResetError) as error:
                if is_last or not reused.get("is_reused"):
                    raise self._lost(error) from error
                reused.clear()  # it had rested, and was closed while it was taken: nobody read the request
            except aiohttp.ClientError as error:
                raise self._lost(error) from error
        raise AssertionError("the second try returns or raises")

    async def _signed(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, until: float | None
    ) -> Mapping[str, str]:
        signer = self._signer
        if signer is None:
            return headers
        added: dict[str, str] = await self._bounded(lambda: signer.headers(method, url, dict(headers), body), until)
        return {**headers, **added}

    async def _bounded(self, work: Any, until: float | None) -> Any:
        """Wait for what `work` begins.  Raises DeadlineExceeded, and Unreachable after a long silence."""
        now = self._clock()
        limit_at = now + self._silence_s
        is_dated = until is not None and until < limit_at
        try:
            async with asyncio.timeout(max(0.0, (until if is_dated and until is not None else limit_at) - now)):
                return await work()
        except TimeoutError as error:
            if is_dated:
                raise DeadlineExceeded(
                    f"{self.name} had not answered when the time was over.",
                    fix="Allow more time (x-deadline-ms), or ask another place.",
                ) from error
            raise self._lost(error) from error

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            import aiohttp

            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S, ttl_dns_cache=60),
                headers=self._headers, cookie_jar=aiohttp.DummyCookieJar(), trace_configs=[self._traces()],
            )  # fmt: skip
        return self._session

    def _traces(self) -> aiohttp.TraceConfig:
        import aiohttp

        async def reuse(session: Any, context: Any, params: Any) -> None:
            context.trace_request_ctx["is_reused"] = True

        async def begin(session: Any, context: Any, params: Any) -> None:
            context.began_at = time.monotonic()

        async def end(session: Any, context: Any, params: Any) -> None:
            self.connect_took_s = time.monotonic() - context.began_at

        traces = aiohttp.TraceConfig()
        traces.on_connection_reuseconn.append(reuse)
        traces.on_connection_create_start.append(begin)
        traces.on_connection_create_end.append(end)
        return traces

    def _lost(self, error: BaseException) -> Unreachable:
        why = type(error).__name__ if not str(error) else str(error)
        return Unreachable(f"{self.name} does not answer: {why[:200]}.", fix="See whether it runs, or ask another.")

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()


class Answer:
    """One HTTP answer whose head has come.  To be closed, which is cheap after its end."""

    def __init__(self, web: Web, response: aiohttp.ClientResponse, until: float | None) -> None:
        self._web, self._response, self._until = web, response, until
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers

    async def read(self) -> bytes:
        """What has come since, at least a byte; nothing at the end.  Raises Unreachable, DeadlineExceeded."""
        import aiohttp

        try:
            data: bytes = await self._web._bounded(self._response.content.readany, self._until)
        except (aiohttp.ClientError, ConnectionError) as error:
            raise Unreachable(
                f"{self._web.name} broke off in the middle of its answer.", fix="Ask again, or ask another place."
            ) from error
        return data

    async def all(self, num_bytes_max: int = BODY_BYTES_MAX) -> bytes:
        """The whole body, or as much of it."""
        parts, size = [], 0
        while size < num_bytes_max and (data := await self.read()):
            parts.append(data)
            size += len(data)
        return b"".join(parts)[:num_bytes_max]

    def close(self) -> None:
        self._response.close()


def _expect_aiohttp() -> None:
    import importlib.util

    if importlib.util.find_spec("aiohttp") is None:
        raise MissingExtra(
            "Places on other machines are reached with aiohttp, which is not installed.",
            fix="Run pip install 'isochrone[fleet]'.",
        )
