"""Ours, as the simulator runs it: the very outlook and choice that the router uses."""

from __future__ import annotations

import random
from collections.abc import Sequence

from isochrone.routing.outlook import Outlook
from isochrone.routing.policy import PolicySettings, choose
from isochrone.routing.records import Ask, Candidate, Outcome, Target

from .places import MODEL, PlaceSpec
from .world import Picked


class Isochrone:
    """hedges  off where the value of hedging is to be seen;  chances: P(within) as stated, by the ask's order"""

    def __init__(
        self,
        fleet: Sequence[PlaceSpec],
        *,
        seed: int,
        settings: PolicySettings | None = None,
        hedges: bool = True,
        name: str = "isochrone",
    ) -> None:
        self.name = name
        self.outlook = Outlook({(spec.name, MODEL): spec.prior for spec in fleet})
        self._settings, self._hedges = settings or PolicySettings(), hedges
        self._draw = random.Random(seed).random
        self.chances: list[float] = []

    def num_seen(self, target: Target) -> int:
        return self.outlook.num_seen(target)

    def pick(self, ask: Ask, candidates: Sequence[Candidate], now: float) -> Picked:
        forecast = self.outlook.see(ask, candidates, now=now)
        decision = choose(ask, candidates, forecast, self._draw, self._settings)
        if decision.chosen is not None:
            self.chances.append(forecast.p_within(forecast.index(decision.chosen)))
        return Picked(decision.order, forecast if self._hedges else None)

    def observe(self, outcome: Outcome) -> None:
        self.outlook.observe(outcome)
