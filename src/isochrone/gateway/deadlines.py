"""`x-deadline-ms`: how long the caller can wait for the whole answer, counted from the request's first byte."""

from __future__ import annotations

from isochrone.budget import Budget, Deadline
from isochrone.errors import BadRequest

from .call import Call

DEADLINE_MS_MAX = 24 * 3600 * 1000


def deadline_of(call: Call) -> tuple[Deadline, bool]:
    """(the deadline, whether the caller stated one).  Raises BadRequest."""
    given = call.headers.get(b"x-deadline-ms")
    if given is None:
        return Deadline.start(Budget(), call.arrived_at), False
    if not given.isdigit() or len(given) > 9 or not 1 <= int(given) <= DEADLINE_MS_MAX:
        raise BadRequest(
            f"x-deadline-ms is {given[:40].decode('latin-1')!r}, which is no time to answer in.",
            fix=f"Send whole milliseconds from 1 to {DEADLINE_MS_MAX}.", param="x-deadline-ms",
        )  # fmt: skip
    return Deadline.start(Budget(total_s=int(given) / 1000), call.arrived_at), True
