"""The engine's own process: `python -m isochrone.engine.process FD SPEC`, started by `client`.

FD is one end of a socket pair, SPEC an EngineSpec as JSON.  The loop is worker 0 of the runtime: it reads what came,
runs a step, says what it gave, and sleeps on the socket when there is nothing to do.  It ends when told, or when the
other end is gone; the gateway's signals are the gateway's business.
"""

from __future__ import annotations

import gc
import importlib
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import msgspec

from isochrone.errors import BadConfig, IsochroneError
from isochrone.runtime.step import Runtime

from .engine import Engine
from .records import Cancel, Drain, EngineSpec, Failed, FromEngine, Ready, Shutdown, Submit, ToEngine
from .wire import Unpacker, pack, to_engine

if TYPE_CHECKING:
    from isochrone.text.grammar import Tokens

INBOX_BYTES = 2**18
"""Read at most this much between two steps; the rest waits in the kernel and slows its sender."""

SWITCH_S = 0.0005
"""How long a step waits for a thread that compiles a grammar to give way; Python's own 5 ms are a whole step."""


def main(arguments: list[str]) -> int:
    """The process's life; returns its exit code."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)  # they reach a whole group; the gateway drains, then says Shutdown
    with socket.socket(fileno=int(arguments[0])) as peer:
        try:
            return _live(peer, msgspec.json.decode(arguments[1], type=EngineSpec))
        except (BrokenPipeError, ConnectionResetError):
            return 1  # the gateway is gone, and with it everyone who waited


def load_runtime(spec: EngineSpec) -> Runtime:
    """Call the function that the spec names."""
    return cast(Runtime, _named(spec.load)(**spec.arguments))


def load_tokens(spec: EngineSpec) -> Tokens:
    """Call the function that the spec names for the tokenizer."""
    assert spec.tokens is not None, "called only where the spec names one"
    return cast("Tokens", _named(spec.tokens)(**spec.arguments))


def _named(path: str) -> Callable[..., object]:
    module, _, function = path.partition(":")
    try:
        return cast(Callable[..., object], getattr(importlib.import_module(module), function))
    except (ImportError, AttributeError) as error:
        raise BadConfig(
            f"{path} names no function that loads a runtime: {error}", fix="Write it as package.module:function."
        ) from error


def serve(peer: socket.socket, engine: Engine) -> None:
    """Step until told to stop.  Returns on Shutdown, and when the other end is closed."""
    inbox = Inbox(peer)
    while True:
        messages = inbox.take(wait=not engine.has_work)
        if messages is None:
            return
        for message in messages:
            match message:
                case Submit():
                    engine.submit(message)
                case Cancel(id, sample):
                    engine.cancel(id, sample)
                case Drain():
                    engine.drain()
                case Shutdown():
                    return
        peer.sendall(pack(engine.step(time.monotonic())))


class Inbox:
    """What the gateway said since last asked."""

    def __init__(self, peer: socket.socket) -> None:
        self._peer, self._buffer = peer, bytearray(INBOX_BYTES)
        self._unpacker: Unpacker[ToEngine] = to_engine()

    def take(self, *, wait: bool) -> list[ToEngine] | None:
        """Whole messages; none when there are none (never when waiting); None when the other end is closed."""
        while True:
            try:
                num_bytes = self._peer.recv_into(self._buffer, 0, 0 if wait else socket.MSG_DONTWAIT)
            except BlockingIOError:
                return []
            if num_bytes == 0:
                return None
            messages = list(self._unpacker.push(memoryview(self._buffer)[:num_bytes]))
            if messages or not wait:
                return messages


def _live(peer: socket.socket, spec: EngineSpec) -> int:
    begin = time.monotonic()
    sys.setswitchinterval(SWITCH_S)
    try:
        runtime = load_runtime(spec)
        engine = Engine(runtime, spec.limits, load_tokens=None if spec.tokens is None else lambda: load_tokens(spec))
    except IsochroneError as error:
        _say(peer, Failed(error.code, error.message, error.fix))
        return 1
    except Exception as error:  # a fault ends at its process, and its reason travels
        fix = "Report this with the model's name; --debug shows where it happened."
        _say(peer, Failed("internal_error", f"Loading the model raised {type(error).__name__}: {error}", fix))
        return 1
    try:
        gc.collect()
        gc.freeze()  # what is loaded now stays: no later collection looks at it again
        _say(peer, Ready(engine.info, time.monotonic() - begin))
        serve(peer, engine)
    finally:
        runtime.close()
    return 0


def _say(peer: socket.socket, record: FromEngine) -> None:
    peer.sendall(pack(record))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
