"""What rules a candidate out before anything is weighed: each reason in a few words, for the table of rows."""

from __future__ import annotations

from isochrone.routing.geography import Geography
from isochrone.routing.records import Ask, Candidate

USED_UP = 0.005
"""Share of a quota that is as good as nothing: to ask would be refused."""


def ruled_out(ask: Ask, one: Candidate, geography: Geography) -> str | None:
    """Why this candidate cannot or may not answer; None when it can."""
    if not one.is_open:
        return "breaker open"
    if one.headroom <= USED_UP:
        return "quota used up"
    if ask.needs and not ask.needs <= one.abilities:
        return f"cannot do {', '.join(sorted(ask.needs - one.abilities))}"
    if one.context is not None and ask.num_prompt + 1 > one.context:
        return f"context of {one.context} is too short"
    if ask.scope != "any":
        reason = geography.why_not(ask.scope, one.location, one.regions)
        if reason:
            return reason
    if ask.quality is not None and (one.quality is None or one.quality < ask.quality):
        return "quality unknown" if one.quality is None else f"quality {one.quality:g} is below {ask.quality:g}"
    return None
