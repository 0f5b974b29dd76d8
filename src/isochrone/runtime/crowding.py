"""How many workers a step should have on a machine whose cores others use too.

A step is as fast as its slowest worker.  Where another process takes turns on a core, the worker there is away for
milliseconds while a region takes microseconds: with two threads, decoding falls to a seventh.  One worker fewer leaves
that core to the neighbour, and nobody waits.  Now and then the spared worker is tried again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

CROWDED_STEPS = 3
"""Held-up steps, less good ones, before a worker is spared: one hiccup means nothing."""
PAUSE_CYCLES, PAUSE_CYCLES_MAX = 250_000_000, 1_000_000_000
"""Cycles (about 0.1 s and 0.4 s) of steps before a spared worker is tried again; twice as many each time that this
fails.  Time and not steps: a prefill step is fifty times a decode step, and loses most without its worker."""
TRIAL_STEPS = 16
"""Good steps after which a worker that was tried again counts as back."""


@dataclass(frozen=True, slots=True)
class Crew:
    """How many workers the next step has, and what led to it.

    num_workers      for the next step, num_workers_max at most
    num_crowded      held-up steps of late, each good step takes one off
    paused_cycles    time until a spared worker is tried again
    pause_cycles     time that the next pause takes
    num_on_trial     good steps that the worker tried last has yet to see
    """

    num_workers_max: int
    num_workers: int
    num_crowded: int = 0
    paused_cycles: int = 0
    pause_cycles: int = PAUSE_CYCLES
    num_on_trial: int = 0

    @property
    def is_settled(self) -> bool:
        """Whether a good step changes nothing, as after almost every step."""
        return self.num_workers == self.num_workers_max and self.num_crowded == self.num_on_trial == 0


def after_step(crew: Crew, step_cycles: int, waited_cycles: int) -> Crew:
    """The crew of the next step, by what the last one took and what all its workers together waited too long."""
    if is_held_up(crew.num_workers, step_cycles, waited_cycles):
        return _after_held_up(crew)
    if crew.is_settled:
        return crew
    if crew.num_on_trial == 1:
        crew = replace(crew, pause_cycles=PAUSE_CYCLES)
    crew = replace(
        crew, num_crowded=max(0, crew.num_crowded - 1), num_on_trial=max(0, crew.num_on_trial - 1),
        paused_cycles=max(0, crew.paused_cycles - step_cycles),
    )  # fmt: skip
    if crew.num_workers < crew.num_workers_max and crew.paused_cycles == 0 and crew.num_on_trial == 0:
        # Tried again with little credit: if it is held up at once, it is spared at once.
        return replace(
            crew, num_workers=crew.num_workers + 1, num_crowded=CROWDED_STEPS - 1, num_on_trial=TRIAL_STEPS,
        )  # fmt: skip
    return crew


def _after_held_up(crew: Crew) -> Crew:
    crew = replace(crew, num_crowded=crew.num_crowded + 1)
    if crew.num_crowded < CROWDED_STEPS or crew.num_workers == 1:
        return replace(crew, num_crowded=min(crew.num_crowded, CROWDED_STEPS))
    return replace(
        crew, num_workers=crew.num_workers - 1, num_crowded=0, num_on_trial=0, paused_cycles=crew.pause_cycles,
        pause_cycles=min(2 * crew.pause_cycles, PAUSE_CYCLES_MAX),
    )  # fmt: skip


def is_held_up(num_workers: int, step_cycles: int, waited_cycles: int) -> bool:
    """Whether a worker that is away half of the time costs the others more than it gives.

    Of n workers n - 1 wait a share w of the step for one that is there half of the time.  Without it the step would
    take (1 - w) + 1 / (2 (n - 1)) of its time: less, if w > 1 / (2 (n - 1)).  Below a quarter it is uneven work.
    """
    if num_workers == 1:
        return False
    others = num_workers - 1
    return waited_cycles > step_cycles * max(0.5, 0.25 * others)
