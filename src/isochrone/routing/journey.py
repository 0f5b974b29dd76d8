"""One request on its way: the executor's guide, from the first ask to the record of what came of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from isochrone.budget import Deadline
from isochrone.errors import (
    ContextTooLong,
    IsochroneError,
    NoPlace,
    NotFound,
    Overloaded,
    PlaceRefused,
    Throttled,
    Unsupported,
)
from isochrone.places.place import Model, Place, Request
from isochrone.places.route import Attempt, Route, RunLeft

from . import breaker
from .affinity import beginnings, prompt_text
from .asking import ask_of
from .candidates import FULL, Field
from .execute import Later, Option, Sent
from .execute.faults import blame
from .execute.race import first_timeout_s
from .journal import Routed
from .members import Member
from .outlook import Forecast
from .policy import choose, ruled_out
from .records import Ask, Candidate, Decision, Outcome, Row, Target
from .runs import OpenRun

if TYPE_CHECKING:
    from .router import Router


FULL_S = 1.0
"""When to come again where every place is full: answers end all the time."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What was known of a target when it was last considered.  row  in the decision;  index: in the forecast"""

    candidate: Candidate
    row: Row
    forecast: Forecast
    index: int


class Journey:
    """Fulfils `execute.Guide` for one request.

    deadline  of the request, ended where its run ends;  run: that it is a step of
    """

    def __init__(self, router: Router, request: Request, deadline: Deadline, run: OpenRun | None) -> None:
        self._router, self._request, self.deadline, self._run = router, request, deadline, run
        self._text = prompt_text(request.prompt)
        self._chain = beginnings(request.tenant, self._text)
        self._num_prompt = router.density.num_tokens(request, self._text)
        self._sent: list[Sent] = []
        self._seen: dict[Target, Seen] = {}
        self._found: dict[Target, tuple[Member, Model]] = {}
        self._holds: dict[int, AbstractContextManager[object]] = {}
        self._ask: Ask | None = None
        self._ask_last: Ask | None = None  # with what was left of the budget then
        self.decision: Decision | None = None
        self._last: Decision | None = None
        self._field: Field | None = None
        self._is_resuming = False

    def find(self, target: Target) -> tuple[Place, Model]:
        """The place and the model behind a target that was considered."""
        member, model = self._found[target]
        return member.place, model

    def decide(
        self, tried: Collection[Target] = (), *, spent_usd: float = 0.0, is_resuming: bool = False
    ) -> tuple[Ask, Decision]:
        """What would be done now, and why."""
        router, now = self._router, self._router.clock()
        ask = self._ask_now(now, spent_usd, is_resuming, shared=self._run is not None)
        chars = router.affinity.num_cached_chars(self._chain, now)
        scale = self._num_prompt / max(1, len(self._text))
        cached = {target: num_chars * scale for target, num_chars in chars.items()}
        field = self._field = router.scout.look(ask.model, now, cached, tried)
        self._found |= field.found
        forecast = router.outlook.see(ask, field.candidates, now=now)
        decision = choose(ask, field.candidates, forecast, router.draw, router.policy)
        if decision.chosen is None and self._run is not None:  # a step's share is a wish; the run's rest is the limit
            ask = self._ask_now(now, spent_usd, is_resuming, shared=False)
            forecast = router.outlook.see(ask, field.candidates, now=now)
            decision = choose(ask, field.candidates, forecast, router.draw, router.policy)
        if field.out:
            decision = replace(decision, rows=(*decision.rows, *field.out))
        rows = {(row.place, row.model): row for row in decision.rows}
        for index, one in enumerate(field.candidates):
            self._seen[one.target] = Seen(one, rows[one.target], forecast, index)
        self._last, self._ask_last = decision, ask
        if self.decision is None:
            self.decision, self._ask = decision, ask
        return ask, decision

    def options(self, tried: Collection[Target], *, spent_usd: float, is_resuming: bool) -> Sequence[Option]:
        self._is_resuming = is_resuming
        _, decision = self.decide(tried, spent_usd=spent_usd, is_resuming=is_resuming)
        return [self._option(self._seen[target]) for target in decision.order]

    def later(self, tried: Collection[Target]) -> Later | None:
        router, now = self._router, self._router.clock()
        known = [
            Later(self._option(seen), router.breakers.retry_at(target, now))
            for target, seen in self._seen.items()
            if self._comes_back(target, now) and self._may_ask(seen)
        ]
        return min(known, key=lambda later: later.at, default=None)

    def _may_ask(self, seen: Seen) -> bool:
        """Whether nothing but its pause speaks against it: what is too dear stays so, and what is unlikely, too."""
        ask, policy = self._ask_last, self._router.policy
        if ask is None or ruled_out(ask, replace(seen.candidate, is_open=True), policy.geography) is not None:
            return False
        if ask.cost_usd is not None and seen.forecast.cost_usd[seen.index] > ask.cost_usd:
            return False
        return not ask.strict or bool(seen.forecast.p[seen.index] >= policy.target_p)

    def _comes_back(self, target: Target, now: float) -> bool:
        """It said when it will have room; an answer that has begun waits for a place that is let alone, too."""
        breakers = self._router.breakers
        return breakers.is_merely_busy(target, now) or (self._is_resuming and not breakers.is_open_for(target, now))

    def refusal(self) -> IsochroneError:
        assert self._last is not None and self._field is not None  # nobody is refused before somebody was looked for
        return refusal(self._request, self._last, self._field, self._router.clock())

    def can_retry(self, target: Target) -> bool:
        if self._router.scout.is_full(target[0], self._found[target][0]):  # by now, perhaps
            return False
        return self._router.allowances.has_retry(target)

    def chance(self, target: Target, within_s: float, silent_s: float = 0.0) -> float:
        seen = self._seen[target]
        return seen.forecast.p_first_by(seen.index, silent_s + within_s, silent_s)

    def first_by_s(self, now: float) -> float | None:
        if self.deadline.ttft_at is not None:
            return max(0.0, self.deadline.ttft_at - now) or None
        if not self._request.dated or not self._sent:
            return None
        row = self._seen[self._sent[0].target].row
        if row.ttft is None or row.total is None:
            return None
        words_s = max(0.0, row.total.p50_s - row.ttft.p50_s)
        return max(0.0, self.deadline.total_at - now - words_s) or None

    def may_hedge(self) -> bool:
        return self._router.allowances.spend_hedge()

    def sent(self, sent: Sent) -> None:
        router, now = self._router, sent.sent_at
        if self._sent:
            if sent.why != "hedge":
                router.allowances.spend_retry(sent.target)
        else:
            router.allowances.began(sent.target)
        self._sent.append(sent)
        router.breakers.note(sent.target, breaker.Sent(), now)
        router.traffic.sent(sent)
        hold = self._holds[id(sent)] = self._found[sent.target][0].hold()
        hold.__enter__()

    def spoke(self, sent: Sent) -> None:
        self._router.traffic.spoke(sent)
        self._router.allowances.spoke(sent.target)
        self._router.breakers.note(sent.target, breaker.Spoke(), self._router.clock())
        assert sent.first_at is not None  # the executor sets it before it says so
        self._router.affinity.sent(sent.target, self._chain, sent.first_at)

    def ended(self, sent: Sent, error: IsochroneError | None) -> None:
        router = self._router
        assert sent.kind is not None and sent.ended_at is not None  # the executor books before it tells
        router.traffic.ended(sent)
        self._holds.pop(id(sent)).__exit__(None, None, None)
        router.allowances.ended(sent.kind, sent.target)
        self._judge(sent, error)
        self._learn(sent)
        router.outlook.observe(self._outcome(sent))

    def cost_usd(self) -> float:
        """By all attempts so far, those that lost included."""
        return sum(sent.cost_usd for sent in self._sent)

    def closed(self) -> None:
        router, cost_usd = self._router, self.cost_usd()
        if self._run is not None and self._sent:
            router.runs.stepped(self._run, cost_usd=cost_usd)
        if self.decision is not None and self._ask is not None:
            arrived_ago_s = router.clock() - self.deadline.arrived_at
            router.record(
                Routed(
                    self._request.id, self._request.tenant, arrived_ago_s, self._ask, self.decision,
                    self._attempts(), cost_usd,
                )
            )  # fmt: skip

    def route(self, sent: Sent) -> Route:
        """What to tell the caller of the answer's way, now that these words of it have come."""
        router, now = self._router, self._router.clock()
        seen = self._seen[sent.target]
        cost_usd = self.cost_usd()
        left: RunLeft | None = None
        if self._run is not None:
            left = router.runs.left(self._run, cost_usd=cost_usd, now=now)
        limit_usd = self.deadline.cost_usd
        return Route(
            sent.target[0], sent.target[1],
            predicted_ttft_s=seen.row.ttft.p50_s if seen.row.ttft else None,
            predicted_total_s=seen.row.total.p50_s if seen.row.total else None,
            p_within=seen.row.p_within, expected_usd=seen.row.cost_usd, cost_usd=cost_usd,
            left_s=self.deadline.remaining_s(now) if self._request.dated else None,
            left_usd=None if limit_usd is None else max(0.0, limit_usd - cost_usd),
            attempts=self._attempts(), is_exploring=self.decision is not None and self.decision.is_exploring, run=left,
        )  # fmt: skip

    def _ask_now(self, now: float, spent_usd: float, has_begun: bool, *, shared: bool) -> Ask:
        runs, run = self._router.runs, self._run
        return ask_of(
            self._request, self.deadline, now, num_prompt=self._num_prompt, spent_usd=spent_usd, has_begun=has_begun,
            share_s=runs.share_s(run, now) if shared and run else None,
            share_usd=runs.share_usd(run) if shared and run else None,
        )  # fmt: skip

    def _option(self, seen: Seen) -> Option:
        one, settings = seen.candidate, self._router.settings
        timeout_s = first_timeout_s(
            seen.row.ttft.p99_s if seen.row.ttft else None, one.num_seen, floor_s=settings.first_floor_s,
            factor=settings.first_factor, unseen_s=settings.first_unseen_s,
        )  # fmt: skip
        return Option(one.target, timeout_s, self._num_prompt, one.price, one.num_in_flight, one.in_flight_prompt)

    def _judge(self, sent: Sent, error: IsochroneError | None) -> None:
        """Tell the breaker."""
        breakers = self._router.breakers
        assert sent.ended_at is not None  # `ended` looked
        if sent.kind in ("failed", "stalled"):
            breakers.note(sent.target, breaker.Failed(isinstance(error, PlaceRefused)), sent.ended_at)
        elif sent.kind == "answered" or (sent.kind == "refused" and error is not None and blame(error) != "busy"):
            breakers.note(sent.target, breaker.Answered(), sent.ended_at)
        if isinstance(error, Overloaded) and not isinstance(error, NoPlace) and error.code != "budget_unreachable":
            breakers.busy(sent.target, sent.ended_at + max(0.0, error.retry_after_s))

    def _learn(self, sent: Sent) -> None:
        """From what a place counted."""
        if sent.kind != "answered" or sent.why == "continued" or not sent.tally.num_prompt:
            return
        router = self._router
        router.density.learn(self._request, self._text, sent.tally.num_prompt)
        trust = router.affinity.trust(sent.target)
        expected = self._seen[sent.target].candidate.num_cached / max(trust, 1e-3)
        router.affinity.learn(sent.target, expected=expected, actual=sent.tally.num_cached)

    def _outcome(self, sent: Sent) -> Outcome:
        one = self._seen[sent.target].candidate
        assert sent.kind is not None and sent.ended_at is not None  # `ended` looked
        is_whole = sent.kind == "answered"
        num_others = 0 if one.num_waiting is None else max(0, one.num_waiting - one.num_silent)
        return Outcome(
            sent.target, sent.kind, sent.sent_at, sent.last_at if is_whole else sent.ended_at,
            sent.tally.num_prompt or sent.num_prompt, sent.tally.num_cached or min(one.num_cached, sent.num_prompt),
            sent.tally.num_answer, sent.first_at, sent.in_flight, sent.in_flight_prompt,
            route=self._ask.route if self._ask and sent.why != "continued" else "",  # a rest teaches no whole length
            code=sent.code, cost_usd=sent.cost_usd, silent_prompt=one.silent_prompt, num_others=num_others,
            network_s=one.network.p50_s, oldest_silent_s=one.oldest_silent_s,
        )  # fmt: skip

    def _attempts(self) -> tuple[Attempt, ...]:
        return tuple([attempt_of(sent, self.deadline.arrived_at) for sent in self._sent])


def attempt_of(sent: Sent, arrived_at: float) -> Attempt:
    """An attempt in the words that callers and the ledger read."""
    return Attempt(
        sent.target[0], sent.target[1], sent.why, sent.sent_at - arrived_at,
        first_s=None if sent.first_at is None else sent.first_at - arrived_at,
        ended_s=None if sent.ended_at is None else sent.ended_at - arrived_at,
        kind=sent.kind or "", code=sent.code, num_prompt=sent.tally.num_prompt or sent.num_prompt,
        num_cached=sent.tally.num_cached, num_answer=sent.tally.num_answer, cost_usd=sent.cost_usd,
    )  # fmt: skip


def refusal(request: Request, decision: Decision, field: Field, now: float) -> IsochroneError:
    """Why no place can be asked, in the kind of error that helps most."""
    if not field.found:
        return NotFound(f"No place serves {request.model[:80]!r} now.", fix="See /v1/models for what is served.")
    why = "; ".join(f"{row.place}: {row.verdict}" for row in decision.rows[:6])
    verdicts = [row.verdict for row in decision.rows]
    if verdicts and all(verdict.startswith("context ") for verdict in verdicts):
        return ContextTooLong(f"No place has room for this prompt: {why}.", fix="Shorten the prompt.")
    if verdicts and all(verdict.startswith("cannot do ") for verdict in verdicts):
        return Unsupported(f"No place can do what this asks: {why}.", fix="Ask for less, or for another model.")
    num_full = sum(verdict.startswith(FULL) for verdict in verdicts)
    if num_full and num_full == len(verdicts):
        return Throttled(f"Every place is full: {why}.", fix="Ask again.", retry_after_s=FULL_S)
    waits_s = [one.retry_at - now for one in field.candidates if one.retry_at > now]
    if waits_s and len(waits_s) == len(field.candidates):
        return Throttled(f"Every place is busy or let alone: {why}.", fix="Ask again.", retry_after_s=min(waits_s))
    return NoPlace(
        f"No place of the fleet can answer this as it is asked: {why}.",
        fix="Allow more time, money or places; isochrone explain shows each.", retry_after_s=min(waits_s, default=1.0),
    )  # fmt: skip
