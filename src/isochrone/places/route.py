"""What was decided for an answer and what came of it: told to the caller with the answer's first and last delta."""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

Why: TypeAlias = Literal["first", "failover", "hedge", "retry", "continued"]
"""Why a place was asked.  `first`: it was chosen.  `failover`: another had refused, failed or kept silent too long.
`hedge`: beside another, which had become unlikely to be in time.  `retry`: again, after the pause that it asked for.
`continued`: to go on with an answer that had broken off."""


class Attempt(Struct, frozen=True, omit_defaults=True):
    """One time that a place was asked.  Seconds count from the request's arrival.

    kind      as of a `routing.records.Outcome`;  empty while it runs;  code: of the error it ended with
    first_s   when its first words came;  None: none did
    """

    place: str
    model: str
    why: Why
    sent_s: float
    first_s: float | None = None
    ended_s: float | None = None
    kind: str = ""
    code: str = ""
    num_prompt: int = 0
    num_cached: int = 0
    num_answer: int = 0
    cost_usd: float = 0.0


class RunLeft(Struct, frozen=True):
    """What remains to an agent's run after this step.

    steps_s  what the steps that are still to be expected will take;  None: not learned yet
    """

    id: str
    num_steps: int
    total_s: float | None = None
    cost_usd: float | None = None
    steps_s: float | None = None


class Route(Struct, frozen=True):
    """The answer's way.  With the first delta it says what is expected, with the last what came of it.

    place, model      where the answer comes from (on the last delta: where its end came from)
    predicted_*_s     from the moment of the choice, in the middle of what was likely;  None: nobody predicted
    p_within          probability that the whole budget is kept, as it was seen when the place was chosen
    expected_usd      what this answer was expected to cost
    cost_usd          what all attempts together cost so far
    left_s, left_usd  what remains of the caller's budget; None where none was stated
    attempts          in the order in which they were sent, those that lost included
    is_exploring      the place was chosen to learn about it
    """

    place: str
    model: str
    predicted_ttft_s: float | None = None
    predicted_total_s: float | None = None
    p_within: float | None = None
    expected_usd: float | None = None
    cost_usd: float = 0.0
    left_s: float | None = None
    left_usd: float | None = None
    attempts: tuple[Attempt, ...] = ()
    is_exploring: bool = False
    run: RunLeft | None = None

    @property
    def num_hedges(self) -> int:
        """How often a second place was asked beside the first."""
        return sum(attempt.why == "hedge" for attempt in self.attempts)
