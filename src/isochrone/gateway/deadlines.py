"""What a caller can wait for, in every form it may be said in, and the deadline that follows.

    Isochrone-Budget: ttft=300ms, itl=50ms, total=5s      or a class: Isochrone-Budget: voice, total=20s
    {"budget": {"ttft": "300ms"}}  {"budget": "chat"}     in the body (the openai SDK's `extra_body`)
    x-slo-ttft-ms, x-slo-tpot-ms, x-deadline-ms           whole milliseconds

Of several statements of one time the tightest holds.  Everything counts from the request's first byte.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from msgspec import UNSET

from isochrone.budget import BUDGET_CLASSES, Budget, Deadline
from isochrone.errors import BadConfig, BadRequest
from isochrone.units import format_duration, parse_duration

from .call import Call

TIME_S_MIN, TIME_S_MAX = 1e-3, 24 * 3600.0
HEADER_BYTES_MAX = 256
TIMES = {"ttft": "ttft_s", "itl": "itl_s", "total": "total_s"}
ROUTED = ("cost", "quality", "scope")
"""Parts of a budget that choose between places; this server is one place."""
MILLISECOND_HEADERS = {b"x-slo-ttft-ms": "ttft_s", b"x-slo-tpot-ms": "itl_s", b"x-deadline-ms": "total_s"}
_EXAMPLE = "Write it as ttft=300ms, itl=50ms, total=5s, or as one of " + ", ".join(BUDGET_CLASSES) + "."

Given = Any
"""The body's `budget` as it was decoded: the name of a class, times by name, or nothing."""


def deadline_of(call: Call, given: Given = None) -> tuple[Deadline, bool]:
    """(the deadline, whether a total time was stated: the answer is cut there).  Raises BadRequest."""
    budget = budget_of(call.headers, given)
    return Deadline.start(budget, call.arrived_at), budget.total_s is not None


def budget_of(headers: Mapping[bytes, bytes], given: Given = None) -> Budget:
    """The tightest of all that was said.  Raises BadRequest, which names the header or the field."""
    said: dict[str, float] = {}
    for name, seconds in [*_from_body(given), *_from_header(headers), *_from_milliseconds(headers)]:
        said[name] = min(seconds, said.get(name, seconds))
    return Budget(said.get("ttft_s"), said.get("itl_s"), said.get("total_s"))


def _from_body(given: Given) -> Iterator[tuple[str, float]]:
    if given is None or given is UNSET:
        return
    if isinstance(given, str):
        yield from _class(given, "budget")
        return
    if not isinstance(given, Mapping):
        raise BadRequest("budget is neither a name nor an object.", fix=_EXAMPLE, param="budget")
    for name, value in given.items():
        if not isinstance(value, str) and name in TIMES:
            raise BadRequest(
                f"budget.{name} is {str(value)[:40]}, which has no unit.",
                fix='Write a text with a unit, such as "300ms" or "5s".', param=f"budget.{name}",
            )  # fmt: skip
        yield _time(name, str(value), f"budget.{name}")


def _from_header(headers: Mapping[bytes, bytes]) -> Iterator[tuple[str, float]]:
    raw = headers.get(b"isochrone-budget")
    if raw is None:
        return
    if len(raw) > HEADER_BYTES_MAX:
        raise BadRequest("Isochrone-Budget is longer than any budget.", fix=_EXAMPLE, param="Isochrone-Budget")
    for item in raw.decode("latin-1").split(","):
        name, is_time, value = (part.strip() for part in item.partition("="))
        if is_time:
            yield _time(name, value, "Isochrone-Budget")
        else:
            yield from _class(name, "Isochrone-Budget")


def _from_milliseconds(headers: Mapping[bytes, bytes]) -> Iterator[tuple[str, float]]:
    for header, name in MILLISECOND_HEADERS.items():
        raw = headers.get(header)
        if raw is None:
            continue
        if not raw.isdigit() or len(raw) > 9 or not 1 <= int(raw) <= TIME_S_MAX * 1000:
            raise BadRequest(
                f"{header.decode()} is {raw[:40].decode('latin-1')!r}, which is no time to answer in.",
                fix=f"Send whole milliseconds from 1 to {TIME_S_MAX * 1000:.0f}.", param=header.decode(),
            )  # fmt: skip
        yield name, int(raw) / 1000


def _class(name: str, param: str) -> Iterator[tuple[str, float]]:
    budget = BUDGET_CLASSES.get(name)
    if budget is None:
        raise BadRequest(f"{name[:40]!r} is no class of budgets.{_nearest(name)}", fix=_EXAMPLE, param=param)
    for attribute in TIMES.values():
        seconds = getattr(budget, attribute)
        if seconds is not None:
            yield attribute, seconds


def _time(name: str, value: str, param: str) -> tuple[str, float]:
    if name in ROUTED:
        raise BadRequest(
            f"A budget of {name} chooses between places, and this server is a single one.",
            fix=f"Remove {name}; ttft, itl and total are kept here.", param=param,
        )  # fmt: skip
    if name not in TIMES:
        raise BadRequest(f"{name[:40]!r} is no part of a budget.{_nearest(name)}", fix=_EXAMPLE, param=param)
    try:
        seconds = parse_duration(value[:40])
    except BadConfig as error:
        raise BadRequest(f"{name} is no time: {error.message}", fix=error.fix, param=param) from None
    if not TIME_S_MIN <= seconds <= TIME_S_MAX:
        raise BadRequest(
            f"{name} is {value[:40]}, which is no time to answer in.",
            fix=f"Send a time from {format_duration(TIME_S_MIN)} to {format_duration(TIME_S_MAX)}.", param=param,
        )  # fmt: skip
    return TIMES[name], seconds


def _nearest(name: str) -> str:
    found = get_close_matches(name[:40].lower(), [*TIMES, *BUDGET_CLASSES], n=1)
    return f" Was {found[0]} meant?" if found else ""
