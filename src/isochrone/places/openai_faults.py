"""What an OpenAI-compatible server refuses, with a type of ours.  Servers agree on the status, and on little else."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
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

RETRY_AFTER_S, RETRY_AFTER_S_MAX = 1.0, 86_400.0
WORDS_MAX = 500
_LONG = ("context length", "context size", "context_length", "maximum context", "too long", "exceed_context")
_FILTERED = ("content_filter", "content_policy_violation", "content policy", "responsibleai")
_SPENT = ("insufficient_quota", "billing", "credit")
_CLEARED = (400, 413, 422)


def fault_of(place: str, status: int, headers: Mapping[str, str], body: bytes, now: float) -> IsochroneError:
    """A refusal by its status, body and headers.  now  Unix time, for a Retry-After that is a date"""
    words, code, param = _said(body)
    is_told = bool(words) and status != 401  # what is said of a wrong key may quote it, and callers read this
    sentence = f"{place} answered {status}" + (f": {words}" if is_told else ".")
    low = f"{code} {words}".lower()
    if status in (401, 403) or (status in (402, 429) and any(mark in low for mark in _SPENT)):
        return PlaceRefused(sentence, fix="Check the key of this place, what it may do, and what is left to spend.")
    if status == 429:
        return Throttled(sentence, fix="Ask again later, or another place.", retry_after_s=retry_after_s(headers, now))
    if status in _CLEARED and any(mark in low for mark in _FILTERED):
        return ContentFiltered(sentence, fix="Change the prompt, or allow another place.", reason=code or "filter")
    if status in _CLEARED and any(mark in low for mark in _LONG):
        return ContextTooLong(sentence, fix="Shorten the prompt, or lower max_tokens.", param=param)
    if status == 404:
        return NotFound(sentence, fix="Check the model's name at this place, and the place's url.")
    if status in (503, 529):
        return Overloaded(sentence, fix="Ask again later, or another place.", retry_after_s=retry_after_s(headers, now))
    if 400 <= status < 500 and status not in (408, 425):
        return BadRequest(sentence, fix="Correct the request as the place says.", param=param)
    return Unreachable(sentence, fix="Ask again; if it stays, look at that server's log.")


def fault_in_stream(place: str, error: Any, now: float) -> IsochroneError:
    """An error said in the middle of a stream that had begun with 200."""
    fields = error if isinstance(error, dict) else {"message": str(error)}
    stated = (fields.get("code"), fields.get("status"))
    status = next((value for value in stated if isinstance(value, int) and 400 <= value < 600), None)
    if status is None:
        low = f"{fields.get('code')} {fields.get('type')} {fields.get('message')}".lower()
        is_limit, is_bad = "rate_limit" in low, "invalid" in low or any(mark in low for mark in (*_LONG, *_FILTERED))
        status = 429 if is_limit else 503 if "overloaded" in low else 400 if is_bad else 502
    return fault_of(place, status, {}, msgspec.json.encode({"error": fields}), now)


def retry_after_s(headers: Mapping[str, str], now: float) -> float:
    """When to come again: seconds, milliseconds where they are given, or the seconds until a date."""
    lower = {name.lower(): value for name, value in headers.items()}
    for name, unit_s in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        raw = lower.get(name, "")
        try:
            seconds = float(raw) * unit_s
        except ValueError:
            try:
                seconds = parsedate_to_datetime(raw).timestamp() - now
            except (ValueError, TypeError):
                continue
        if 0 <= seconds <= RETRY_AFTER_S_MAX:
            return seconds
    return RETRY_AFTER_S


def _said(body: bytes) -> tuple[str, str, str | None]:
    """(sentence, code, param) in the shapes that servers give them."""
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        text = body.decode("utf-8", "replace").strip()
        return ("" if text.startswith("<") else text[:WORDS_MAX]), "", None
    if isinstance(fields, list) and fields:
        fields = fields[0]  # as Google's compatible face wraps it
    if not isinstance(fields, dict):
        return str(fields)[:WORDS_MAX], "", None
    error = fields.get("error", fields.get("detail", fields))
    if not isinstance(error, dict):
        return _words(error), "", None
    code = next((error[name] for name in ("code", "type") if isinstance(error.get(name), str)), "")
    param = error.get("param")
    return _words(error.get("message", "")), code, param if isinstance(param, str) else None


def _words(said: Any) -> str:
    return (said if isinstance(said, str) else msgspec.json.encode(said).decode())[:WORDS_MAX]
