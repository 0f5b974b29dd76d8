"""What an answer says of its own way: headers, the member `isochrone` of a body or a last event, in one wording.

    Isochrone-Place: lan-2                         Isochrone-Predicted: ttft=120ms, total=2.1s
    Isochrone-Model: qwen3-8b                      Isochrone-Actual: ttft=112ms, total=1.9s
    Isochrone-Cost: 0.00031usd                     Isochrone-Budget-Left: total=3.1s, cost=0.0017usd

A stream's head is sent with its first words: what is known then is in it, the rest in its last event.
"""

from __future__ import annotations

from typing import Any

from isochrone.places.route import Route
from isochrone.units import format_duration

Headers = list[tuple[bytes, bytes]]


def route_headers(route: Route, ttft_s: float | None, total_s: float | None) -> Headers:
    """total_s  None for a stream that goes on"""
    headers = [(b"isochrone-place", _ascii(route.place)), (b"isochrone-model", _ascii(route.model))]
    for name, times in (
        (b"isochrone-predicted", {"ttft": route.predicted_ttft_s, "total": route.predicted_total_s}),
        (b"isochrone-actual", {"ttft": ttft_s, "total": total_s}),
    ):
        known = [f"{key}={_time(seconds)}" for key, seconds in times.items() if seconds is not None]
        if known:
            headers.append((name, ", ".join(known).encode()))
    cost = route.cost_usd if total_s is not None else route.expected_usd
    if cost is not None:
        headers.append((b"isochrone-cost" if total_s is not None else b"isochrone-cost-expected", _usd(cost)))
    if left := _left(route):
        headers.append((b"isochrone-budget-left", left))
    return headers + _run_headers(route)


def _left(route: Route) -> bytes:
    parts = [] if route.left_s is None else [f"total={_time(route.left_s)}"]
    parts += [] if route.left_usd is None else [f"cost={_usd(route.left_usd).decode()}"]
    return ", ".join(parts).encode()


def _run_headers(route: Route) -> Headers:
    """What remains to the agent's run."""
    run = route.run
    if run is None:
        return []
    parts = [f"steps={run.num_steps}"]
    parts += [] if run.total_s is None else [f"total={_time(run.total_s)}"]
    parts += [] if run.cost_usd is None else [f"cost={_usd(run.cost_usd).decode()}"]
    parts += [] if run.steps_s is None else [f"expected={_time(run.steps_s)}"]
    return [(b"isochrone-run", _ascii(run.id)), (b"isochrone-run-left", ", ".join(parts).encode())]


def route_fields(route: Route) -> dict[str, Any]:
    """The same as JSON, with every attempt."""
    fields: dict[str, Any] = {"place": route.place, "model": route.model, "cost_usd": route.cost_usd}
    for name in (
        "predicted_ttft_s", "predicted_total_s", "p_within", "expected_usd", "left_s", "left_usd", "attempts", "run",
    ):  # fmt: skip
        value = getattr(route, name)
        if value not in (None, ()):
            fields[name] = value
    if route.is_exploring:
        fields["is_exploring"] = True
    return fields


def _time(seconds: float) -> str:
    """As a budget is written."""
    return format_duration(max(0.0, seconds)).replace(" ", "")


def _usd(amount: float) -> bytes:
    return b"%susd" % f"{max(0.0, amount):.9f}".rstrip("0").rstrip(".").encode()


def _ascii(text: str) -> bytes:
    """A name as a header may hold it."""
    return text.encode("ascii", "backslashreplace").replace(b"\r", b"").replace(b"\n", b"")
