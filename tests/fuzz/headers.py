"""Fuzz the headers that decide who asks and by when."""

from __future__ import annotations

from functools import cache
from typing import Any

from tests.fuzz.target import Target

SECRET = b"iso-a-key-that-no-mutation-will-find"


@cache
def _access() -> tuple[Any, Any]:
    from isochrone.gateway.access import Access

    return Access("127.0.0.1", SECRET.decode()), Access("127.0.0.1")


def read(content: bytes) -> None:
    """Lines of `name: value`: the gate lets in who has the key, and a budget is one or is refused."""
    from isochrone.errors import BadRequest, NotAllowed
    from isochrone.gateway.deadlines import budget_of
    from isochrone.gateway.faults import NotAllowedHere

    lines = (line.partition(b":") for line in content.split(b"\n"))
    headers = {name.strip().lower(): value.strip() for name, _, value in lines}
    guarded, open_here = _access()
    try:
        guarded.caller("/v1/models", headers)
    except NotAllowedHere as error:
        assert error.message and error.fix  # it quotes the Host or Origin of the caller's own
    except NotAllowed as error:
        assert error.message and error.fix and SECRET.decode() not in str(error)
    else:
        assert SECRET in (headers.get(b"x-api-key", b""), headers.get(b"authorization", b"")[-len(SECRET) :])
    try:
        open_here.caller("/v1/models", headers)
    except NotAllowedHere as error:
        assert error.status == 403
    try:
        budget = budget_of(headers)
    except BadRequest as error:
        assert error.param and error.fix
    else:
        times = (budget.ttft_s, budget.itl_s, budget.total_s)
        assert all(seconds is None or 0 < seconds <= 24 * 3600 for seconds in times)


def seeds() -> list[bytes]:
    return [
        b"", b"Authorization: Bearer " + SECRET, b"x-api-key: " + SECRET + b"\nHost: [::1]:8400\nOrigin: http://localhost",
        b"Isochrone-Budget: ttft=300ms, itl=50ms, total=5s", b"isochrone-budget: voice, total=20s\nx-slo-ttft-ms: 200",
        b"x-deadline-ms: 5000\nx-slo-tpot-ms: 30\nSec-Fetch-Site: cross-site",
    ]  # fmt: skip


TARGET = Target("headers", read, seeds, ("isochrone.gateway.access", "isochrone.gateway.deadlines"))
