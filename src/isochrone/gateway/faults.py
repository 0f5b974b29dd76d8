"""What a caller sees when something fails: OpenAI's error shape, with our sentence and the way out in its message."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from operator import attrgetter

import msgspec

from isochrone.errors import BadRequest, IsochroneError, Overloaded


class NotAllowedHere(IsochroneError):
    """The request came by a way that this server does not answer."""

    status = 403
    code = "not_allowed_here"


class MethodNotAllowed(BadRequest):
    """The path exists, but not for this method."""

    status = 405
    code = "method_not_allowed"


class ModelNotFound(BadRequest):
    """The model is not served here."""

    status = 404
    code = "model_not_found"


class RateLimited(Overloaded):
    """The key has used up what it may use in a minute, or at once."""

    status = 429
    code = "rate_limit_exceeded"


class ScopeMissing(IsochroneError):
    """The key is right, but was not made for this."""

    status = 403
    code = "scope_missing"


class TooSlow(BadRequest):
    """The request did not arrive in time."""

    status = 408
    code = "request_timeout"


class TooLarge(BadRequest):
    """The request is larger than this server takes."""

    status = 413
    code = "request_too_large"


class HeadTooLarge(BadRequest):
    """The request line and the headers are larger than this server takes."""

    status = 431
    code = "headers_too_large"


class WrongEncoding(BadRequest):
    """The body is compressed or not JSON."""

    status = 415
    code = "unsupported_media_type"


def error_body(error: IsochroneError) -> bytes:
    """The error as OpenAI's clients read it."""
    kind = "invalid_request_error" if error.status < 500 else "server_error"
    if isinstance(error, RateLimited):
        kind = "rate_limit_error"
    fields = {
        "message": str(error),
        "type": kind,
        "param": getattr(error, "param", None),
        "code": error.code,
    }
    return msgspec.json.encode({"error": fields})


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one API says an error.

    body        (error, request id) -> the body of an answer that failed before it began
    event       (error, request id) -> the last bytes of a stream that fails in its middle
    status      the HTTP status that goes with the body
    id_headers  headers that carry the request's id beside x-request-id
    """

    body: Callable[[IsochroneError, str], bytes]
    event: Callable[[IsochroneError, str], bytes]
    status: Callable[[IsochroneError], int] = attrgetter("status")
    id_headers: tuple[bytes, ...] = ()


def _error_body(error: IsochroneError, id: str) -> bytes:
    return error_body(error)


def _error_event(error: IsochroneError, id: str) -> bytes:
    return b"data: %s\n\n" % error_body(error)


OPENAI = Dialect(_error_body, _error_event)


def error_headers(error: IsochroneError) -> list[tuple[bytes, bytes]]:
    """When to come again, how to authenticate, whether the connection can go on."""
    headers = []
    if isinstance(error, Overloaded):
        headers.append((b"retry-after", b"%d" % max(1, ceil(error.retry_after_s))))
        headers.append((b"retry-after-ms", b"%d" % max(1, ceil(error.retry_after_s * 1000))))
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if isinstance(error, TooLarge | TooSlow | HeadTooLarge | WrongEncoding):
        headers.append((b"connection", b"close"))  # the rest of the body will not be read
    return headers
