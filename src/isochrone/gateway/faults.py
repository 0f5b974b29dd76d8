"""What a caller sees when something fails: OpenAI's error shape, with our sentence and the way out in its message."""

from __future__ import annotations

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
    fields = {
        "message": str(error),
        "type": kind,
        "param": getattr(error, "param", None),
        "code": error.code,
    }
    return msgspec.json.encode({"error": fields})


def error_headers(error: IsochroneError) -> list[tuple[bytes, bytes]]:
    """When to come again, how to authenticate, whether the connection can go on."""
    headers = []
    if isinstance(error, Overloaded):
        headers.append((b"retry-after", b"%d" % max(1, round(error.retry_after_s))))
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if isinstance(error, TooLarge | TooSlow | HeadTooLarge | WrongEncoding):
        headers.append((b"connection", b"close"))  # the rest of the body will not be read
    return headers
