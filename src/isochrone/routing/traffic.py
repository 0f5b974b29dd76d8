"""Our own requests at each target: what a new one would queue behind."""

from __future__ import annotations

from dataclasses import dataclass, field

from .execute import Sent
from .records import Target


@dataclass(slots=True)
class Count:
    """Of one target; as in `records.Candidate`.  silent_since  when each that is silent was sent, oldest first"""

    num_in_flight: int = 0
    in_flight_prompt: int = 0
    num_silent: int = 0
    silent_prompt: int = 0
    silent_since: dict[int, float] = field(default_factory=dict)

    def oldest_silent_s(self, now: float) -> float:
        """How long the oldest of those without a first token has waited."""
        return max(0.0, now - next(iter(self.silent_since.values()), now))


NOTHING = Count()


class Traffic:
    """Counts every attempt from its beginning to its end."""

    def __init__(self) -> None:
        self._counts: dict[Target, Count] = {}
        self._places: dict[str, int] = {}

    def at(self, target: Target) -> Count:
        """What is there now.  Not to be changed."""
        return self._counts.get(target, NOTHING)

    def at_place(self, place: str) -> int:
        """Our requests at all models of a place."""
        return self._places.get(place, 0)

    def sent(self, sent: Sent) -> None:
        count = self._counts.get(sent.target)
        if count is None:
            count = self._counts[sent.target] = Count()
        count.num_in_flight += 1
        count.in_flight_prompt += sent.num_prompt
        count.num_silent += 1
        count.silent_prompt += sent.num_prompt
        count.silent_since[id(sent)] = sent.sent_at
        self._places[sent.target[0]] = self.at_place(sent.target[0]) + 1

    def spoke(self, sent: Sent) -> None:
        self._heard(self._counts[sent.target], sent)

    def ended(self, sent: Sent) -> None:
        count = self._counts[sent.target]
        count.num_in_flight -= 1
        count.in_flight_prompt -= sent.num_prompt
        if sent.first_at is None:
            self._heard(count, sent)
        if count.num_in_flight == 0:
            del self._counts[sent.target]  # so that places which left are forgotten
        self._places[sent.target[0]] -= 1
        if not self._places[sent.target[0]]:
            del self._places[sent.target[0]]

    @staticmethod
    def _heard(count: Count, sent: Sent) -> None:
        """Nothing more is waited for: it spoke, or it ended."""
        count.num_silent -= 1
        count.silent_prompt -= sent.num_prompt
        del count.silent_since[id(sent)]
