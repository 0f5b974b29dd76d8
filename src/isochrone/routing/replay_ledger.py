"""Recorded requests as the ledger has them, for `replay.estimate`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from isochrone.ledger import decided_between
from isochrone.ledger.database import Where
from isochrone.ledger.decisions import AttemptRecord

from .journal import read, read_attempt
from .records import Ask, Decision
from .replay import kept_budget


@dataclass(frozen=True, slots=True)
class LedgerRequest:
    """Fulfils `replay.Recorded`."""

    ask: Ask
    decision: Decision
    kept: bool
    cost_usd: float
    ttft_s: float | None


def recorded(where: Where, begin_at: float, end_at: float) -> Iterator[LedgerRequest]:
    """Every request decided from `begin_at` until before `end_at` (Unix time).  Raises Overloaded."""
    for decision, attempts in decided_between(where, begin_at, end_at):
        ask, made = read(decision.body)
        yield _request(ask, made, attempts)


def _request(ask: Ask, decision: Decision, records: list[AttemptRecord]) -> LedgerRequest:
    attempts = [read_attempt(record.body) for record in records]
    firsts = [one.first_s for one in attempts if one.first_s is not None]
    answered = [one for one in attempts if one.kind == "answered" and one.ended_s is not None]
    ttft_s = min(firsts, default=None)
    total_s = answered[-1].ended_s if answered else None
    cost_usd = sum(record.cost_usd for record in records)
    num_answer = sum(one.num_answer for one in attempts if one.kind != "hedged_out")
    kept = kept_budget(ask, ttft_s=ttft_s, total_s=total_s, num_answer=num_answer, cost_usd=cost_usd)
    return LedgerRequest(ask, decision, kept, cost_usd, ttft_s)
