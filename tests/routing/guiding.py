"""A guide that offers places in a fixed order and keeps everything it is told: the executor without any prediction."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from isochrone.budget import Budget, Deadline
from isochrone.errors import IsochroneError, NoPlace, Overloaded
from isochrone.places.place import Chat, Delta, Message, Prompted, Request
from isochrone.places.route import Route
from isochrone.routing.execute import Execution, Later, Option, Sent, Settings, Speech
from isochrone.routing.records import Target
from isochrone.testing.places import ScriptedPlace
from isochrone.testing.virtual_loop import now

WORDS = ["One", " two", " three", " four", " five", " six"]
CHAT = Chat((Message("user", "Count."),))


def request(**fields: object) -> Request:
    return Request(**{"id": "r", "model": "m", "tenant": "t", "prompt": CHAT, **fields})  # type: ignore[arg-type]


@dataclass
class FixedGuide:
    """chances  (target, seconds, silent seconds) -> chance of first words"""

    places: Sequence[ScriptedPlace]
    deadline: Deadline
    timeout_s: float = 30.0
    chances: Callable[[Target, float, float], float] = lambda target, within_s, silent_s: 1.0
    num_hedges: int = 0
    num_closed: int = 0
    without_retry: set[str] = field(default_factory=set)
    busy: dict[Target, float] = field(default_factory=dict)
    began: list[Sent] = field(default_factory=list)
    reported: list[tuple[Sent, IsochroneError | None]] = field(default_factory=list)

    def _all(self) -> list[Option]:
        return [
            Option((place.name, model.id), self.timeout_s, 10, place.price)
            for place in self.places
            for model in place.models
        ]

    def options(self, tried: Collection[Target], *, spent_usd: float, is_resuming: bool) -> Sequence[Option]:
        at = now()
        return [one for one in self._all() if one.target not in tried and self.busy.get(one.target, 0.0) <= at]

    def later(self, tried: Collection[Target]) -> Later | None:
        known = [Later(one, self.busy[one.target]) for one in self._all() if one.target in self.busy]
        return min(known, key=lambda later: later.at, default=None)

    def refusal(self) -> IsochroneError:
        return NoPlace("No place.", fix="Add one.", retry_after_s=1.0)

    def can_retry(self, target: Target) -> bool:
        return target[0] not in self.without_retry

    def chance(self, target: Target, within_s: float, silent_s: float = 0.0) -> float:
        return self.chances(target, within_s, silent_s)

    def first_by_s(self, now: float) -> float | None:
        return None if self.deadline.ttft_at is None else max(0.0, self.deadline.ttft_at - now)

    def may_hedge(self) -> bool:
        self.num_hedges -= 1
        return self.num_hedges >= 0

    def sent(self, sent: Sent) -> None:
        self.began.append(sent)

    def spoke(self, sent: Sent) -> None:
        assert sent.first_at is not None

    def closed(self) -> None:
        self.num_closed += 1

    def ended(self, sent: Sent, error: IsochroneError | None) -> None:
        self.reported.append((sent, error))
        if isinstance(error, Overloaded):
            self.busy[sent.target] = now() + error.retry_after_s

    @property
    def kinds(self) -> list[tuple[str, str, str]]:
        """(place, why, kind) of every attempt, in the order in which they were sent."""
        return [(sent.target[0], sent.why, sent.kind or "") for sent in self.began]


@dataclass
class Answer:
    """What a caller had.  times  of each delta, since the request came;  error: what ended it, if one did"""

    text: str = ""
    deltas: list[Delta] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    num_prompted: int = 0
    error: IsochroneError | None = None

    @property
    def longest_pause_s(self) -> float:
        return max((after - before for before, after in zip(self.times, self.times[1:], strict=False)), default=0.0)


async def answer(
    places: Sequence[ScriptedPlace], asked: Request | None = None, budget: Budget | None = None, *,
    settings: Settings | None = None, hang_up_after: int | None = None, **guiding: object,
) -> tuple[Answer, FixedGuide]:  # fmt: skip
    """Run a request over places, asked in this order.  hang_up_after  so many deltas the caller leaves"""
    asked, budget = asked or request(), budget or Budget()
    deadline = Deadline.start(budget, now())
    guide = FixedGuide(places, deadline, **guiding)  # type: ignore[arg-type]
    by_name = {place.name: place for place in places}
    speech = Speech(
        asked,
        lambda target: (by_name[target[0]], by_name[target[0]].models[0]),
        lambda sent: Route(sent.target[0], sent.target[1]),
        seed=7,
    )
    strays: set[asyncio.Future[None]] = set()
    execution = Execution(
        speech, deadline, guide, settings or Settings(), now, is_dated=budget.total_s is not None, strays=strays
    )
    had = Answer()
    try:
        async with aclosing(execution.run()) as events:
            async for event in events:
                if isinstance(event, Prompted):
                    had.num_prompted += 1
                    continue
                had.text += event.text
                had.deltas.append(event)
                had.times.append(now() - deadline.arrived_at)
                if hang_up_after is not None and len(had.deltas) >= hang_up_after:
                    break
    except IsochroneError as error:
        had.error = error
    expect_clean_books(places, guide)
    while strays:
        await asyncio.wait(strays)
    assert all(place.num_open == 0 for place in places)
    return had, guide


def expect_clean_books(places: Sequence[ScriptedPlace], guide: FixedGuide) -> None:
    """Every attempt was reported, and once."""
    assert guide.num_closed == 1
    assert sorted(id(sent) for sent, _ in guide.reported) == sorted(id(sent) for sent in guide.began)
    assert all(sent.kind and sent.ended_at is not None for sent in guide.began)
    assert sum(len(place.requests) for place in places) <= len(guide.began)


__all__ = ["CHAT", "WORDS", "Answer", "FixedGuide", "answer", "request"]
