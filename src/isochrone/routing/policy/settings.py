"""The operator's dials of the choice."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PolicySettings:
    """target_p        probability of keeping the budget from which a target counts as good enough
    near             targets whose costs differ by less than this share are equals
    explore_share    of requests rich in slack, so many go where little is known
    slack            rich in slack: the budget is so many times what the chosen target takes in 99 of 100 cases
    num_known        outcomes from which a target counts as known; before, it holds few requests at a time
    hopeless_p       where no target is likelier than this to keep the budget, the least harm decides instead
    late_usd         what a budget that is missed is worth beyond its cost: breaks near ties towards the likelier
    """

    target_p: float = 0.95
    near: float = 0.05
    explore_share: float = 0.03
    slack: float = 3.0
    num_known: int = 5
    hopeless_p: float = 0.05
    late_usd: float = 0.0


DEFAULT = PolicySettings()
