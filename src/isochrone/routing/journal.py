"""The record of a routed request: what was asked, what was seen of each candidate, and what each attempt came to."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import msgspec

from isochrone.ledger.decisions import AttemptRecord, DecisionRecord, Decisions
from isochrone.places.route import Attempt

from .records import Ask, Decision


@dataclass(frozen=True, slots=True)
class Routed:
    """One request, when it is over.

    arrived_ago_s  since its first byte;  code: of the error it ended with, empty when it was answered
    decision       the first one; later ones, after a failure, show in the attempts
    """

    id: str
    tenant: str
    arrived_ago_s: float
    ask: Ask
    decision: Decision
    attempts: tuple[Attempt, ...]
    cost_usd: float


class Journal(Protocol):
    """What keeps such records.  Must not wait for a disk."""

    def record(self, routed: Routed) -> None: ...


class _Body(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the ledger keeps as JSON."""

    ask: Ask
    decision: Decision


class LedgerJournal:
    """Hands them to a ledger.  unix_time  seconds"""

    def __init__(self, decisions: Decisions, unix_time: Callable[[], float] = time.time) -> None:
        self._decisions, self._unix_time = decisions, unix_time

    def record(self, routed: Routed) -> None:
        """A record that a full queue turned away is counted by the ledger."""
        at, decision = self._unix_time() - routed.arrived_ago_s, routed.decision
        body = msgspec.json.encode(_Body(routed.ask, decision))
        place, model = decision.chosen or ("", routed.ask.model)
        self._decisions.record(
            DecisionRecord(
                id=routed.id, owner=routed.tenant, at=at, route=routed.ask.route, model=model, place=place,
                policy=decision.policy, propensity=decision.propensity, is_exploring=decision.is_exploring, body=body,
            ),
            [_attempt(routed, attempt, at) for attempt in routed.attempts],
        )  # fmt: skip


def _attempt(routed: Routed, attempt: Attempt, at: float) -> AttemptRecord:
    return AttemptRecord(
        id=routed.id, owner=routed.tenant, at=at + attempt.sent_s, place=attempt.place, model=attempt.model,
        kind=attempt.kind, is_hedge=attempt.why == "hedge", cost_usd=attempt.cost_usd,
        body=msgspec.json.encode(attempt),
    )  # fmt: skip


def read(body: bytes) -> tuple[Ask, Decision]:
    """What `LedgerJournal` wrote of a decision."""
    found = msgspec.json.decode(body, type=_Body)
    return found.ask, found.decision


def read_attempt(body: bytes) -> Attempt:
    """What `LedgerJournal` wrote of an attempt."""
    return msgspec.json.decode(body, type=Attempt)
