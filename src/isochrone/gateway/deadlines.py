"""What a caller can wait for and may spend, in every form it may be said in, and the deadline that follows.

    Isochrone-Budget: ttft=300ms, itl=50ms, total=5s      or a class: Isochrone-Budget: voice, total=20s
    Isochrone-Budget: cost=0.002usd, quality>=0.6, scope=region:eu, strict
    {"budget": {"ttft": "300ms", "quality": 0.6}}  {"budget": "chat"}    in the body (the openai SDK's `extra_body`)
    x-slo-ttft-ms, x-slo-tpot-ms, x-deadline-ms           whole milliseconds

Of several statements of one part the tightest holds, the operator's among them.  Times count from the request's first
byte.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import reduce
from typing import Any

from msgspec import UNSET

from isochrone.budget import BUDGET_CLASSES, SINGLE, Budget, Deadline, Policy
from isochrone.errors import BadConfig, BadRequest
from isochrone.units import format_duration, parse_duration, parse_usd

from .call import Call

TIME_S_MIN, TIME_S_MAX = 1e-3, 24 * 3600.0
COST_USD_MAX = 1e6
HEADER_BYTES_MAX = 256
TIMES = {"ttft": "ttft_s", "itl": "itl_s", "total": "total_s"}
ROUTED = ("cost", "quality", "scope")
"""Parts of a budget that choose between places."""
STRICT = "strict"
MILLISECOND_HEADERS = {b"x-slo-ttft-ms": "ttft_s", b"x-slo-tpot-ms": "itl_s", b"x-deadline-ms": "total_s"}
_ONE_SCOPE = r"(any|local|site|region:[a-z0-9][a-z0-9._-]{0,39})"
_SCOPE = re.compile(rf"{_ONE_SCOPE}(\+{_ONE_SCOPE}){{0,3}}")
_EXAMPLE = "Write it as ttft=300ms, itl=50ms, total=5s, or as one of " + ", ".join(BUDGET_CLASSES) + "."

Given = Any
"""The body's `budget` as it was decoded: the name of a class, parts by name, or nothing."""


def deadline_of(call: Call, given: Given = None) -> tuple[Deadline, bool]:
    """(the deadline, whether a total time was stated: the answer is cut there).  Raises BadRequest."""
    budget, strict = stated(call.headers, given, call.policy)
    return Deadline.start(budget, call.arrived_at, strict=strict), budget.total_s is not None


def budget_of(headers: Mapping[bytes, bytes], given: Given = None, policy: Policy = SINGLE) -> Budget:
    """The tightest of all that was said.  Raises BadRequest, which names the header or the field."""
    return stated(headers, given, policy)[0]


def stated(headers: Mapping[bytes, bytes], given: Given = None, policy: Policy = SINGLE) -> tuple[Budget, bool]:
    """(the tightest of all that was said, whether to refuse what is unlikely).  Raises BadRequest."""
    parts = [*_from_body(given, policy), *_from_header(headers, policy), *_from_milliseconds(headers)]
    budget = reduce(Budget.tightened, (part for part in parts if isinstance(part, Budget)), policy.budget)
    return budget, policy.strict or STRICT in parts


def within(said: Budget, call: Call, *, strict: bool) -> Deadline:
    """The deadline of what another gateway asks: within what the operator here asks of every request, too."""
    return Deadline.start(said.tightened(call.policy.budget), call.arrived_at, strict=strict or call.policy.strict)


def _from_body(given: Given, policy: Policy) -> Iterator[Budget | str]:
    if given is None or given is UNSET:
        return
    if isinstance(given, str):
        yield _class(given, "budget")
        return
    if not isinstance(given, Mapping):
        raise BadRequest("budget is neither a name nor an object.", fix=_EXAMPLE, param="budget")
    for name, value in given.items():
        param = f"budget.{name}"
        if name == STRICT and isinstance(value, bool):
            yield from (STRICT,) if value else ()
        elif not isinstance(value, str) and name in (*TIMES, "cost"):
            raise BadRequest(
                f"{param} is {str(value)[:40]}, which has no unit.",
                fix=f'Write a text with a unit, such as {"0.002usd" if name == "cost" else "300ms"!r}.', param=param,
            )  # fmt: skip
        else:
            yield _part(name, str(value), param, policy)


def _from_header(headers: Mapping[bytes, bytes], policy: Policy) -> Iterator[Budget | str]:
    raw = headers.get(b"isochrone-budget")
    if raw is None:
        return
    if len(raw) > HEADER_BYTES_MAX:
        raise BadRequest("Isochrone-Budget is longer than any budget.", fix=_EXAMPLE, param="Isochrone-Budget")
    for item in raw.decode("latin-1").split(","):
        name, is_part, value = (part.strip() for part in item.partition("="))
        if is_part:
            yield _part(name.removesuffix(">").rstrip(), value, "Isochrone-Budget", policy)
        elif name == STRICT:
            yield STRICT
        else:
            yield _class(name, "Isochrone-Budget")


def _from_milliseconds(headers: Mapping[bytes, bytes]) -> Iterator[Budget]:
    for header, name in MILLISECOND_HEADERS.items():
        raw = headers.get(header)
        if raw is None:
            continue
        if not raw.isdigit() or len(raw) > 9 or not 1 <= int(raw) <= TIME_S_MAX * 1000:
            raise BadRequest(
                f"{header.decode()} is {raw[:40].decode('latin-1')!r}, which is no time to answer in.",
                fix=f"Send whole milliseconds from 1 to {TIME_S_MAX * 1000:.0f}.", param=header.decode(),
            )  # fmt: skip
        yield _timed(name, int(raw) / 1000)


def _class(name: str, param: str) -> Budget:
    budget = BUDGET_CLASSES.get(name)
    if budget is None:
        raise BadRequest(f"{name[:40]!r} is no class of budgets.{_nearest(name)}", fix=_EXAMPLE, param=param)
    return budget


def _part(name: str, value: str, param: str, policy: Policy) -> Budget:
    if name in ROUTED and not policy.is_routed:
        raise BadRequest(
            f"A budget of {name} chooses between places, and this server is a single one.",
            fix=f"Remove {name}; ttft, itl and total are kept here.", param=param,
        )  # fmt: skip
    match name:
        case "ttft" | "itl" | "total":
            return _timed(TIMES[name], _time(name, value, param))
        case "cost":
            return Budget(cost_usd=_cost(value, param))
        case "quality":
            return Budget(quality=_quality(value, param))
        case "scope":
            return Budget(scope=_scope(value, param, policy))
    raise BadRequest(f"{name[:40]!r} is no part of a budget.{_nearest(name)}", fix=_EXAMPLE, param=param)


def _timed(attribute: str, seconds: float) -> Budget:
    part: dict[str, Any] = {attribute: seconds}
    return Budget(**part)


def _time(name: str, value: str, param: str) -> float:
    try:
        seconds = parse_duration(value[:40])
    except BadConfig as error:
        raise BadRequest(f"{name} is no time: {error.message}", fix=error.fix, param=param) from None
    if not TIME_S_MIN <= seconds <= TIME_S_MAX:
        raise BadRequest(
            f"{name} is {value[:40]}, which is no time to answer in.",
            fix=f"Send a time from {format_duration(TIME_S_MIN)} to {format_duration(TIME_S_MAX)}.", param=param,
        )  # fmt: skip
    return seconds


def _cost(value: str, param: str) -> float:
    try:
        usd = parse_usd(value[:40])
    except BadConfig as error:
        raise BadRequest(f"cost is no amount: {error.message}", fix=error.fix, param=param) from None
    if usd > COST_USD_MAX:
        raise BadRequest(
            f"cost is {value[:40]}, which no answer costs.", fix=f"Send at most {COST_USD_MAX:.0f}usd.", param=param
        )
    return usd


def _quality(value: str, param: str) -> float:
    text = value.removeprefix(">=").strip()
    try:
        quality = float(text)
    except ValueError:
        quality = -1.0
    if not 0.0 <= quality <= 1.0:  # NaN is not
        raise BadRequest(
            f"quality is {value[:40]!r}, which is no score from 0 to 1.",
            fix="Write the least score of the benchmark that will do, such as quality>=0.6.", param=param,
        )  # fmt: skip
    return quality


def _scope(value: str, param: str, policy: Policy) -> str:
    if not _SCOPE.fullmatch(value):
        raise BadRequest(
            f"scope is {value[:40]!r}, which is no scope.",
            fix="Write local, site, region:NAME (such as region:eu) or any.", param=param,
        )  # fmt: skip
    if policy.expect_scope is not None:
        policy.expect_scope(value)
    return value


def _nearest(name: str) -> str:
    found = get_close_matches(name[:40].lower(), [*TIMES, *ROUTED, STRICT, *BUDGET_CLASSES], n=1)
    return f" Was {found[0]} meant?" if found else ""
