"""How patient, how eager and how careful the execution of a choice is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Settings:
    """attempts_max       times that places are asked for one answer, hedges and continuations included
    first_floor_s         shortest time that a place is given for its first words
    first_factor          of the time within which 99 of 100 first words were expected
    first_unseen_s        what a place of which little is known is given instead
    stall_factor          of the time between tokens: silence that ends a stream which can go on elsewhere
    stall_floor_s         shortest such silence where the caller stated a time between tokens
    stall_undated_s       shortest such silence where none was stated
    patience_s            silence that ends a stream even if nobody can go on with it
    grace_s               how long past the end of a stated total time a place, which cuts its answer, is waited for
    hedge_margin          by how much the second place's chance must exceed the first's
    hedge_share           hedges per request, in the long run;  hedge_burst: at once
    hedge_failing_max     share of recent attempts that failed above which nothing is hedged: more work would not help
    retry_share           attempts after the first that each first attempt at a place earns it;  retry_burst: at once
    retry_dropping_max    share of what a place is given and does not keep up to which such attempts need no earning
    close_s               how long an attempt that is given up is waited for at the end of a request
    """

    attempts_max: int = 6
    first_floor_s: float = 1.0
    first_factor: float = 2.0
    first_unseen_s: float = 30.0
    stall_factor: float = 8.0
    stall_floor_s: float = 0.75
    stall_undated_s: float = 10.0
    patience_s: float = 600.0
    grace_s: float = 0.25
    hedge_margin: float = 0.1
    hedge_share: float = 0.05
    hedge_burst: float = 3.0
    hedge_failing_max: float = 0.3
    retry_share: float = 0.2
    retry_burst: float = 10.0
    retry_dropping_max: float = 0.5
    close_s: float = 1.0
