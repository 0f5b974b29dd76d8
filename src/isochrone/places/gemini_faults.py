"""Google's errors as our errors, whether they come as a status or in the middle of a stream."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from isochrone.errors import (
    BadRequest,
    ContentFiltered,
    ContextTooLong,
    IsochroneError,
    NotFound,
    Overloaded,
    PlaceRefused,
    Throttled,
    Unreachable,
)

RETRY_AFTER_S = 1.0
"""When to come again where Google does not say."""
_TOO_LONG = re.compile(r"input token count|exceeds the maximum number of tokens|context (length|window)|too long", re.I)
_BAD_KEY = re.compile(r"api[ _]key (not valid|expired|not found|invalid)|API_KEY_(INVALID|EXPIRED)", re.I)
_NO_WAY_IN = re.compile(r"location is not supported|billing|not available in your (country|region)", re.I)
_HALVES = "Ask again, or ask another place."


def fault(status: int, body: Any, *, model: str, retry_after: str | None = None) -> IsochroneError:
    """The error that an answer of Google's is.

    body         parsed JSON, whatever it is;  retry_after: the header of that name
    """
    error = _error_of(body)
    code = status or int(error.get("code") or 0)
    name = str(error.get("status") or code)
    message = str(error.get("message") or "no more than that")[:1000]
    said = f"Google says {name} for {model}: {message}"
    wait_s = _wait_s(error, retry_after)
    if code == 429 or name == "RESOURCE_EXHAUSTED":
        return Throttled(said, fix="Ask again later, or raise the quota of the project.", retry_after_s=wait_s)
    if code == 503 or name == "UNAVAILABLE":
        return Overloaded(said, fix=_HALVES, retry_after_s=wait_s)
    if code in (401, 403) or _BAD_KEY.search(f"{message} {_reasons(error)}"):
        return PlaceRefused(said, fix="See that the credentials are good, and may use this model in this project.")
    if code == 404:
        return NotFound(said, fix="See which models Google offers in this location.")
    if code == 400 and _TOO_LONG.search(message):
        return ContextTooLong(said, fix="Shorten the conversation, or take a model with a longer context.")
    if code == 400 and (name == "FAILED_PRECONDITION" or _NO_WAY_IN.search(message)):
        return PlaceRefused(said, fix="See the project's billing, and whether Google serves this model from here.")
    if code in (400, 413):
        return BadRequest(said, fix="Change the request, or ask another model.")
    return Unreachable(said, fix=_HALVES)


def filtered(reason: str, model: str, message: str = "") -> ContentFiltered:
    """Nothing was said, because a filter stood before it."""
    return ContentFiltered(
        f"Google's filter let nothing of the answer of {model} through ({reason}{f': {message}' if message else ''}).",
        fix="Say it otherwise, or change the place's safety settings.",
        reason=reason,
    )


def _error_of(body: Any) -> Mapping[str, Any]:
    if isinstance(body, list) and body:
        body = body[0]
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(error, dict):
        return error
    return {"message": error} if isinstance(error, str) else {}


def _details(error: Mapping[str, Any]) -> list[dict[str, Any]]:
    details = error.get("details")
    return [detail for detail in details if isinstance(detail, dict)] if isinstance(details, list) else []


def _reasons(error: Mapping[str, Any]) -> str:
    return " ".join(str(detail.get("reason", "")) for detail in _details(error))


def _wait_s(error: Mapping[str, Any], retry_after: str | None) -> float:
    """As google.rpc.RetryInfo says (`34.07s`), or the header, or a second."""
    for detail in _details(error):
        if str(detail.get("@type", "")).endswith("google.rpc.RetryInfo"):
            wait_s = _seconds(str(detail.get("retryDelay", "")).removesuffix("s"))
            if wait_s is not None:
                return wait_s
    wait_s = _seconds(retry_after)
    return RETRY_AFTER_S if wait_s is None else wait_s


def _seconds(text: str | None) -> float | None:
    return float(text) if text and re.fullmatch(r"\d{1,9}(\.\d*)?", text) else None
