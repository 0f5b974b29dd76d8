"""What two Isochrones say to each other: a request as one JSON body, its answer as one JSON object a line.

A line holds what the place gave (`prompted`, then `delta`s) or the error that ended it (`fault`).  An answer is whole
when each of its n answers has had its finish_reason; a stream that ends before was cut.  No instant travels, because
clocks differ: what remains of the budget does, in seconds.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from isochrone import errors
from isochrone.budget import Budget, Deadline
from isochrone.errors import (
    BadRequest,
    CannotMeet,
    ContentFiltered,
    IsochroneError,
    NotFound,
    Overloaded,
    PlaceRefused,
    Throttled,
    Unreachable,
)

from .place import Delta, Prompted, Request, Status

COMPLETE_PATH, STATUS_PATH = "/v1/node/complete", "/v1/node/status"
LINE_BYTES_MAX = 16 * 2**20
Seconds = Annotated[float, Meta(ge=0, le=7 * 86_400)]
Code = Annotated[str, Meta(max_length=100)]


class Left(Struct, frozen=True, omit_defaults=True):
    """What remains of a budget when it is sent.  Fields as in `Deadline`, in seconds from now."""

    total_s: Seconds
    ttft_s: Seconds | None = None
    itl_s: Seconds | None = None
    cost_usd: float | None = None
    quality: float | None = None
    scope: str = "any"
    strict: bool = False

    @classmethod
    def of(cls, deadline: Deadline, now: float) -> Left:
        ttft_s = None if deadline.ttft_at is None else max(0.0, deadline.ttft_at - now)
        return cls(
            deadline.remaining_s(now), ttft_s, deadline.itl_s, deadline.cost_usd, deadline.quality, deadline.scope,
            deadline.strict,
        )  # fmt: skip

    def budget(self, *, is_dated: bool) -> Budget:
        """What the other side allows, from the instant at which the request came.  is_dated  its total cuts answers"""
        total_s = self.total_s if is_dated else None
        return Budget(self.ttft_s, self.itl_s, total_s, self.cost_usd, self.quality, self.scope)


class Asked(Struct, frozen=True):
    """The body of a request."""

    request: Request
    left: Left


class Fault(Struct, frozen=True, omit_defaults=True):
    """An error as it travels.  status  with which it was (or would have been) answered"""

    code: Code
    message: str
    fix: str
    status: int = 500
    retry_after_s: float | None = None
    param: str | None = None
    predicted_s: float | None = None
    reason: str = ""


class Line(Struct, frozen=True, omit_defaults=True):
    """One line of an answer: exactly one of these."""

    prompted: Prompted | None = None
    delta: Delta | None = None
    fault: Fault | None = None


class Node(Struct, frozen=True, omit_defaults=True):
    """What a node says of itself.  is_draining  it finishes what it has, and takes nothing new"""

    status: Status
    version: str
    is_draining: bool = False


_encoder = msgspec.json.Encoder()
_asked, _line, _node = msgspec.json.Decoder(Asked), msgspec.json.Decoder(Line), msgspec.json.Decoder(Node)
_KINDS: dict[str, type[IsochroneError]] = {
    kind.code: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, IsochroneError) and kind is not IsochroneError
}
_OF_STATUS: dict[int, type[IsochroneError]] = {
    401: PlaceRefused, 403: PlaceRefused, 404: NotFound, 429: Throttled, 503: Overloaded,
}  # fmt: skip


def encode_asked(request: Request, deadline: Deadline, now: float) -> bytes:
    return _encoder.encode(Asked(request, Left.of(deadline, now)))


def decode_asked(body: bytes) -> Asked:
    """Raises BadRequest."""
    try:
        asked = _asked.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(
            f"This is no request between nodes: {error}.", fix="Run the same version of Isochrone on both machines."
        ) from None
    return asked


def encode_event(event: Prompted | Delta) -> bytes:
    line = Line(prompted=event) if isinstance(event, Prompted) else Line(delta=event)
    return _encoder.encode(line) + b"\n"


def encode_fault(error: IsochroneError) -> bytes:
    return _encoder.encode(Line(fault=fault_of(error))) + b"\n"


def decode_line(line: bytes) -> Prompted | Delta | Fault:
    """Raises Unreachable when it is none."""
    try:
        said = _line.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _garbled(str(error)) from None
    event = said.delta or said.prompted or said.fault
    if event is None:
        raise _garbled("a line says nothing")
    return event


def encode_node(node: Node) -> bytes:
    return _encoder.encode(node)


def decode_node(body: bytes) -> Node:
    """Raises Unreachable when it is none."""
    try:
        node = _node.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _garbled(str(error)) from None
    return node


class Lines:
    """Bytes in, as they come; whole lines out.  However the bytes are cut, the lines are the same."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def push(self, data: bytes) -> list[bytes]:
        """Raises Unreachable when a line grows beyond all reason."""
        *lines, rest = (bytes(self._rest) + data).split(b"\n") if b"\n" in data else [data]
        if lines:
            self._rest = bytearray(rest)
        else:
            self._rest += data
        if len(self._rest) > LINE_BYTES_MAX:
            raise _garbled(f"a line has more than {LINE_BYTES_MAX} bytes")
        return [line for line in lines if line.strip()]


def fault_of(error: IsochroneError) -> Fault:
    """The record that carries an error."""
    return Fault(
        error.code, error.message, error.fix, error.status,
        retry_after_s=error.retry_after_s if isinstance(error, Overloaded) else None,
        param=getattr(error, "param", None),
        predicted_s=error.predicted_s if isinstance(error, CannotMeet) else None,
        reason=error.reason if isinstance(error, ContentFiltered) else "",
    )  # fmt: skip


def error_of(fault: Fault) -> IsochroneError:
    """The error with its type again; one of a type that only the other side knows becomes what its status says.

    That our key is not accepted there is no fault of our caller: PlaceRefused.
    """
    kind = _OF_STATUS.get(fault.status) if fault.status in (401, 403) else _KINDS.get(fault.code)
    if kind is None:
        kind = _OF_STATUS.get(fault.status) or (BadRequest if 400 <= fault.status < 500 else Unreachable)
    if issubclass(kind, Overloaded):
        retry_after_s = 1.0 if fault.retry_after_s is None else fault.retry_after_s
        error = kind(fault.message, fix=fault.fix, retry_after_s=retry_after_s)
        if isinstance(error, CannotMeet):
            error.predicted_s = fault.predicted_s or 0.0
        return error
    if issubclass(kind, BadRequest):
        return kind(fault.message, fix=fault.fix, param=fault.param)
    if issubclass(kind, ContentFiltered):
        return kind(fault.message, fix=fault.fix, reason=fault.reason)
    return kind(fault.message, fix=fault.fix)


def _garbled(why: str) -> Unreachable:
    return Unreachable(
        f"Two nodes do not understand each other: {why}.", fix="Run the same version of Isochrone on both machines."
    )
