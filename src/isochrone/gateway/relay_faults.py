"""What an OpenAI-compatible server's refusal is called here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

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
WORDS_MAX = 500


def fault_of(place: str, status: int, headers: Mapping[bytes, bytes], body: bytes) -> IsochroneError:
    """A refusal with its status."""
    message, code = _words(body)
    said = f"{place} answered {status}" + (f": {message}" if message else ".")
    if status == 429:
        return Throttled(said, fix="Ask again later, or another place.", retry_after_s=retry_after_s(headers))
    if status in (401, 403):
        return PlaceRefused(f"{place} does not accept our credentials ({status}).", fix="Check the key of this place.")
    if status == 404:
        return NotFound(said, fix="Check the model's name at this place, and the place's address.")
    if code == "context_length_exceeded" or "context length" in message.lower():
        return ContextTooLong(said, fix="Shorten the prompt, or lower max_tokens.")
    if code in ("content_filter", "content_policy_violation"):
        return ContentFiltered(said, fix="Change the prompt, or allow another place.", reason=code)
    if status == 503:
        return Overloaded(said, fix="Ask again later, or another place.", retry_after_s=retry_after_s(headers))
    if 400 <= status < 500 and status != 408:
        return BadRequest(said, fix="Correct the request as the place says.")
    return Unreachable(said, fix="Ask again; if it stays, look at that server's log.")


def fault_in_stream(place: str, error: Any) -> IsochroneError:
    """An error that came as an event of a stream that had begun with 200."""
    fields = error if isinstance(error, dict) else {"message": str(error)}
    code = fields.get("code")
    status = code if isinstance(code, int) and 400 <= code < 600 else 502
    return fault_of(place, status, {}, msgspec.json.encode({"error": fields}))


def retry_after_s(headers: Mapping[bytes, bytes]) -> float:
    """When to come again: seconds, or milliseconds where they are given.  A date is not read."""
    for name, unit_s in ((b"retry-after-ms", 1e-3), (b"retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, b"")) * unit_s
        except ValueError:
            continue
        if 0 <= seconds < 86_400:
            return seconds
    return RETRY_AFTER_S


def _words(body: bytes) -> tuple[str, str]:
    """(message, code) of an error's body, in the shapes that servers give it."""
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "", ""
    error = fields.get("error", fields) if isinstance(fields, dict) else {}
    if not isinstance(error, dict):
        error = {"message": error}
    message = error.get("message") or error.get("detail") or ""
    return str(message)[:WORDS_MAX], str(error.get("code") or "")
