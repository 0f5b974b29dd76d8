"""The choice: the cheapest target that is likely enough to keep the budget.

    rule out what cannot or may not -> of the rest, those with P(within budget) >= target -> the cheapest of them,
    a missed budget counted as a cost -> among equals in cost the one that is made slowest, so that fast places stay
    free for tight budgets -> among near ties two drawn at random, the one with less work ahead

If none is likely enough, the likeliest; `strict` callers get a refusal instead.  What is expected to be cached is
cheaper already (`Forecast.cost_usd`), so leaving a warm prompt costs what it costs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from isochrone.routing.outlook import Forecast
from isochrone.routing.records import Ask, Candidate, Decision, Row

from .rules import ruled_out
from .settings import DEFAULT, PolicySettings

Draw = Callable[[], float]


def choose(
    ask: Ask,
    candidates: Sequence[Candidate],
    forecast: Forecast,
    draw: Draw,
    settings: PolicySettings = DEFAULT,
) -> Decision:
    """Pick a target for a request.  Changes nothing and reads no clock.

    forecast  of these very candidates, in this order
    draw      a number between 0 and 1, evenly distributed, at each call: for ties and exploration
    """
    p, cost, trust = forecast.p, forecast.cost_usd, forecast.trust
    verdicts = [ruled_out(ask, one, settings.geography) for one in candidates]
    if ask.cost_usd is not None:
        for i, usd in enumerate(cost):
            if verdicts[i] is None and usd > ask.cost_usd:
                verdicts[i] = f"costs {usd:.2g} usd"
    able = [i for i, why in enumerate(verdicts) if why is None]
    likely = []
    for i in able:
        if p[i] < settings.target_p:
            verdicts[i] = f"unlikely: {p[i]:.2f}"
        elif trust[i] < settings.num_known and candidates[i].num_in_flight > trust[i]:
            verdicts[i] = "too little known for more at once"
        else:
            likely.append(i)
    weights = _weights(able, candidates, forecast, settings)
    rest = sorted((i for i in able if verdicts[i] is not None), key=lambda i: (weights[i], -p[i]))
    order, propensity, is_exploring = rest, 1.0, False
    if likely:
        likely, chances = _ranked(likely, candidates, forecast, weights, draw, settings)
        order, propensity = likely + rest, chances[likely[0]]
        if settings.explore_share and _is_rich(ask, forecast, likely[0], settings):
            order, propensity, is_exploring = _explored(order, chances, draw, settings)
    elif ask.strict:
        order = []
    return Decision(
        forecast.targets[order[0]] if order else None,
        tuple([forecast.targets[i] for i in order]),
        _rows(candidates, forecast, verdicts, order, p, weights),
        propensity,
        is_exploring,
    )


def _weights(
    able: Sequence[int], candidates: Sequence[Candidate], forecast: Forecast, settings: PolicySettings
) -> list[float]:
    """Expected cost as a share of the dearest answer, with what a missed budget, a scarce place and a thinning quota
    cost in the same measure; 0 for who is ruled out."""
    p, cost, scarcity = forecast.p, forecast.cost_usd, forecast.scarcity
    dearest = max((cost[i] for i in able), default=0.0)
    weights = [0.0] * len(p)
    for i in able:
        used = 1.0 - candidates[i].headroom
        weights[i] = (
            (cost[i] / dearest if dearest > 0.0 else 0.0)
            + settings.late_share * (1.0 - p[i])
            + settings.scarce_share * scarcity[i]
            + settings.thin_share * used * used
        )
    return weights


def _ranked(
    likely: list[int],
    candidates: Sequence[Candidate],
    forecast: Forecast,
    weights: Sequence[float],
    draw: Draw,
    settings: PolicySettings,
) -> tuple[list[int], dict[int, float]]:
    """Those that are likely enough, best first; and with which probability each could have come to stand first."""
    likely.sort(key=lambda i: weights[i])
    least = weights[likely[0]] + settings.near
    equals = [i for i in likely if weights[i] <= least]
    if len(equals) == 1:
        return likely, {likely[0]: 1.0}
    empty = forecast.empty_s
    slowest = max(empty[i] for i in equals) / (1.0 + settings.alike)
    ties = [i for i in equals if empty[i] >= slowest]
    chosen, chances = _one_of_two(ties, candidates, draw)
    return [chosen, *(i for i in likely if i != chosen)], chances


def _one_of_two(ties: list[int], candidates: Sequence[Candidate], draw: Draw) -> tuple[int, dict[int, float]]:
    """Of two drawn at random the one with less work ahead: many gateways that think alike do not all go one way."""
    if len(ties) == 1:
        return ties[0], {ties[0]: 1.0}
    ties.sort(key=lambda i: (candidates[i].silent_prompt, candidates[i].num_in_flight, i))
    n = len(ties)
    first = min(int(draw() * n), n - 1)
    second = min(int(draw() * (n - 1)), n - 2)
    second += second >= first
    return ties[min(first, second)], {i: 2.0 * (n - 1 - rank) / (n * (n - 1)) for rank, i in enumerate(ties)}


def _is_rich(ask: Ask, forecast: Forecast, i: int, settings: PolicySettings) -> bool:
    """Whether the budget is several times what the chosen target takes nearly always."""
    if ask.ttft_s is None and ask.total_s is None:
        return False
    return (ask.ttft_s is None or ask.ttft_s > settings.slack * forecast.first_by_s(i, 0.99)) and (
        ask.total_s is None or ask.total_s > settings.slack * forecast.total_by_s(i, 0.99)
    )


def _explored(
    order: list[int], chances: dict[int, float], draw: Draw, settings: PolicySettings
) -> tuple[list[int], float, bool]:
    """Now and then any of those that can answer, drawn evenly."""
    is_exploring = draw() < settings.explore_share
    chosen = order[min(int(draw() * len(order)), len(order) - 1)] if is_exploring else order[0]
    propensity = chances.get(chosen, 0.0) * (1.0 - settings.explore_share) + settings.explore_share / len(order)
    return [chosen, *(i for i in order if i != chosen)], propensity, is_exploring


def _rows(
    candidates: Sequence[Candidate],
    forecast: Forecast,
    verdicts: Sequence[str | None],
    order: Sequence[int],
    p: Sequence[float],
    weights: Sequence[float],
) -> tuple[Row, ...]:
    """Why each won or lost."""
    chosen, cost, can = order[0] if order else -1, forecast.cost_usd, set(order)
    rows = []
    for i, one in enumerate(candidates):
        why = verdicts[i]
        if i not in can and why is not None and not why.startswith("unlikely"):
            rows.append(Row(one.place, one.model, why, cost_usd=cost[i]))
            continue
        if i == chosen:
            why = "chosen" if why is None else f"chosen, though {why}"
        elif why is None:
            why = _lost(i, chosen, cost, weights)
        rows.append(Row(one.place, one.model, why, forecast.ttft(i), forecast.total(i), p[i], cost[i]))
    return tuple(rows)


def _lost(i: int, chosen: int, cost: Sequence[float], weights: Sequence[float]) -> str:
    if cost[i] > cost[chosen]:
        return "dearer"
    return "less sure" if weights[i] > weights[chosen] else "equal, and kept free"
