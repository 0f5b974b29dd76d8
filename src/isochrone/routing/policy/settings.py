"""The operator's dials of the choice."""

from __future__ import annotations

from dataclasses import dataclass

from isochrone.routing.geography import WORLD, Geography


@dataclass(frozen=True, slots=True)
class PolicySettings:
    """target_p        probability of keeping the budget from which a target counts as good enough
    late_share       what a missed budget costs, as a multiple of the dearest answer among the candidates: a place that
                     is a little dearer and much surer wins
    scarce_share     what taking a scarce place costs, in the same measure, for each unit of its scarcity
    thin_share       what a quota costs that is nearly used up: what runs out next week is saved for it today, and a
                     quota that stays full fills no further
    near             targets whose costs differ by less than this share of the dearest are equals
    alike            equals whose speeds, with nothing else to do, differ by less than this share are near ties
    explore_share    of requests rich in slack, so many go to a target drawn at random
    slack            rich in slack: the budget is so many times what the chosen target takes in 99 of 100 cases
    num_known        outcomes from which a target counts as known; before, it holds few requests at a time
    hopeless_p       where no target is likelier than this to keep the budget, the least harm decides instead
    geography        which places a scope lets through
    """

    target_p: float = 0.95
    late_share: float = 3.0
    scarce_share: float = 1.0
    thin_share: float = 0.3
    near: float = 0.02
    alike: float = 0.3
    explore_share: float = 0.02
    slack: float = 3.0
    num_known: int = 5
    hopeless_p: float = 0.05
    geography: Geography = WORLD


DEFAULT = PolicySettings()
