"""A real server on loopback, in a thread of its own, over a scripted engine."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from isochrone.gateway.access import Access
from isochrone.gateway.limits import Limits
from isochrone.gateway.serve import Serving, bind, serve_on, url_of
from isochrone.ledger import Ledger
from isochrone.places.local import Local
from tests.gateway.playing import PlayingPlace, words
from tests.gateway.scripted import ScriptedEngine, read_tokenizer, write_tokenizer

MODEL = "tiny"
TEST_LIMITS = Limits(
    head_bytes=4096, head_s=0.3, body_bytes=20_000, body_s=0.3, num_messages=8, num_prompts=4, num_answers=100,
    num_in_flight=6, write_s=0.5,
)  # fmt: skip


@dataclass
class Server:
    """One running gateway.  `call` runs a function on its loop."""

    url: str
    engine: Any
    place: Local
    loop: asyncio.AbstractEventLoop
    task: asyncio.Task[None]
    thread: threading.Thread
    ledger: Ledger
    errors: list[BaseException] = field(default_factory=list)

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.url.removeprefix("http://").rsplit(":", 1)
        return host, int(port)

    def client(self, **options: Any) -> OpenAI:
        return OpenAI(base_url=f"{self.url}/v1", api_key="none", **({"max_retries": 0} | options))

    def call(self, function: Callable[[], Any]) -> Any:
        async def run() -> Any:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(10)

    def wait(self, event: asyncio.Event) -> None:
        asyncio.run_coroutine_threadsafe(event.wait(), self.loop).result(10)

    def wait_until(self, is_so: Callable[[], bool]) -> None:
        """Returns once it holds; looked at after every turn of the loop."""

        async def poll() -> None:
            async with asyncio.timeout(10):
                while not is_so():
                    await asyncio.sleep(0.001)

        asyncio.run_coroutine_threadsafe(poll(), self.loop).result(12)

    def send(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """One plain HTTP request: (status, headers, body)."""
        connection = http.client.HTTPConnection(*self.address, timeout=10)
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        try:
            connection.request(method, path, data, headers or {})
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()


def start_server(tokenizer: Path, serving: Serving, make_engine: Callable[[], Any] = ScriptedEngine) -> Server:
    def make() -> tuple[Any, Any]:
        engine = make_engine()
        return engine, Local(MODEL, engine, lambda: read_tokenizer(tokenizer), created_at=1_700_000_000, grace_s=0.05)

    return start_over(serving, make)


def start_over(serving: Serving, make: Callable[[], tuple[Any, Any]]) -> Server:
    """A server over what `make` gives, called on the server's loop: (what a test plays with, the place)."""
    ready: list[Server] = []
    is_ready = threading.Event()

    async def main() -> None:
        engine, place = make()
        ledger = Ledger(serving.ledger_path)
        ledger.open(time.monotonic())
        access = Access(serving.host, serving.api_key, ledger.keys)
        listener = bind(serving.host, serving.port)
        task = asyncio.ensure_future(serve_on(listener, place, access, serving, ledger))
        loop, thread = asyncio.get_running_loop(), threading.current_thread()
        server = Server(url_of(listener), engine, place, loop, task, thread, ledger)
        ready.append(server)
        is_ready.set()
        try:
            await task
        except (asyncio.CancelledError, Exception) as error:
            server.errors.append(error)
        finally:
            ledger.close()

    threading.Thread(target=lambda: asyncio.run(main()), daemon=True).start()
    assert is_ready.wait(10)
    return ready[0]


def stop_server(server: Server) -> None:
    if not server.task.done():
        server.loop.call_soon_threadsafe(server.task.cancel)
    server.thread.join(20)
    assert not server.thread.is_alive()


@pytest.fixture(scope="session")
def tokenizer_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def shared_server(tokenizer_directory: Path) -> Iterator[Server]:
    server = start_server(tokenizer_directory, Serving(port=0, limits=TEST_LIMITS, log_level="error"))
    yield server
    stop_server(server)


@pytest.fixture
def server(shared_server: Server) -> Iterator[Server]:
    """The server with its engine as new; afterwards nothing may be left in it."""
    engine = shared_server.engine
    shared_server.call(engine.gate.set)
    engine.error = engine.late_error = None
    engine.submitted.clear()
    engine.cancelled.clear()
    engine.num_tokens = 0
    yield shared_server
    shared_server.call(engine.gate.set)
    shared_server.wait_until(lambda: engine.num_open == 0)


@pytest.fixture
def client(server: Server) -> OpenAI:
    return server.client()


@pytest.fixture
def wait_for() -> Callable[[Callable[[], bool]], None]:
    """Returns once something in another thread holds."""

    def wait(is_so: Callable[[], bool]) -> None:
        turn = threading.Event()
        for _ in range(10_000):
            if is_so():
                return
            turn.wait(0.001)
        raise AssertionError("it did not happen within ten seconds")

    return wait


@pytest.fixture(scope="module")
def playing_server() -> Iterator[Server]:
    def make() -> tuple[Any, Any]:
        place = PlayingPlace()
        return place, place

    server = start_over(Serving(port=0, limits=TEST_LIMITS, log_level="critical"), make)
    yield server
    stop_server(server)


@pytest.fixture
def played(playing_server: Server) -> Iterator[PlayingPlace]:
    place: PlayingPlace = playing_server.engine
    place.requests.clear()
    place.plays = [words("Hello there")]
    yield place
    playing_server.wait_until(lambda: place.num_open == 0)
