"""The choice: the cheapest target that is likely enough to keep the budget.

    rule out what cannot or may not -> of the rest, those with P(within budget) >= target -> the cheapest of them ->
    among equals in cost the slowest that still makes it, so that scarce fast places stay free for tight budgets ->
    among near ties two drawn at random, the one with less work ahead

If none is likely enough, the likeliest; `strict` callers get a refusal instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from isochrone.routing.outlook import Forecast
from isochrone.routing.records import Ask, Candidate, Decision, Quantiles, Row

from .rules import ruled_out
from .settings import DEFAULT, PolicySettings


def choose(
    ask: Ask,
    candidates: Sequence[Candidate],
    forecast: Forecast,
    draw: Callable[[], float],
    settings: PolicySettings = DEFAULT,
) -> Decision:
    """Pick a target for a request.  Changes nothing and reads no clock.

    forecast  of these very candidates, in this order
    draw      a number between 0 and 1, evenly distributed, at each call: for ties and exploration
    """
    verdicts = [ruled_out(ask, one) for one in candidates]
    p, cost = forecast.p.tolist(), forecast.cost_usd.tolist()
    if ask.cost_usd is not None:
        verdicts = [
            why if why is not None or usd <= ask.cost_usd else f"costs {usd:.2g} usd"
            for why, usd in zip(verdicts, cost, strict=True)
        ]
    able = [i for i, why in enumerate(verdicts) if why is None]
    likely = [i for i in able if p[i] >= settings.target_p]
    if likely:
        order = sorted(likely, key=lambda i: (cost[i], -p[i]))
        order += sorted((i for i in able if p[i] < settings.target_p), key=lambda i: -p[i])
    else:
        order = sorted(able, key=lambda i: (-p[i], cost[i]))
    if not likely and ask.strict:
        order = []
    return _decision(candidates, forecast, verdicts, order, p, cost, settings, is_strict=ask.strict)


def _decision(
    candidates: Sequence[Candidate],
    forecast: Forecast,
    verdicts: list[str | None],
    order: list[int],
    p: list[float],
    cost: list[float],
    settings: PolicySettings,
    *,
    is_strict: bool,
) -> Decision:
    chosen = order[0] if order else None
    rows = []
    for i, (one, ttft, total) in enumerate(zip(candidates, forecast.ttfts(), forecast.totals(), strict=True)):
        why = verdicts[i]
        if why is not None:
            rows.append(Row(one.place, one.model, why, cost_usd=cost[i]))
            continue
        if i == chosen:
            why = "chosen"
        elif p[i] < settings.target_p:
            why = f"unlikely: {p[i]:.2f}"
        else:
            why = "dearer" if chosen is not None and cost[i] > cost[chosen] else "equal, and kept free"
        rows.append(Row(one.place, one.model, why, Quantiles(*ttft), Quantiles(*total), p[i], cost[i]))
    targets = forecast.targets
    return Decision(None if chosen is None else targets[chosen], tuple(targets[i] for i in order), tuple(rows))
