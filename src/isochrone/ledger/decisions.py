"""Why each request went where it went, and what each attempt came to: columns to search by, and JSON from above.

The rooms above define what the JSON says; here it is bytes.  All of it is handed in when the answer is over.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import Struct

from .money import nano_of, usd_of
from .reader import Reader
from .writer import Write, Writer

KEEP_S = 30 * 24 * 3600.0
NUM_KEPT_MAX = 1_000_000
NUM_PAGE = 1000


class DecisionRecord(Struct, frozen=True, kw_only=True):
    """One choice of a place.

    id          of the request, as its timeline has it;  at: Unix time
    place       the chosen one; empty when none could
    propensity  probability with which the policy would have chosen it, for estimates of other policies
    body        the decision with its rows and what it was made from, as JSON
    """

    id: str
    owner: str
    at: float
    route: str = ""
    model: str = ""
    place: str = ""
    policy: str = ""
    propensity: float = 1.0
    is_exploring: bool = False
    body: bytes = b"{}"


class AttemptRecord(Struct, frozen=True, kw_only=True):
    """One attempt at a place for that request, hedges and continuations included.

    kind      how it ended: answered, refused, failed, stalled, cancelled, hedged_out
    cost_usd  what it cost, also when its answer was not used
    body      the outcome with its times, as JSON
    """

    id: str
    owner: str
    at: float
    place: str
    model: str
    kind: str
    is_hedge: bool = False
    cost_usd: float = 0.0
    body: bytes = b"{}"


class Decisions:
    """Takes those of one server."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def record(self, decision: DecisionRecord, attempts: Sequence[AttemptRecord] = ()) -> bool:
        """Hand in a request's decision and attempts; False when the queue is full (which is counted)."""
        values = (
            decision.id, decision.owner, decision.at, decision.route, decision.model, decision.place, decision.policy,
            decision.propensity, int(decision.is_exploring), decision.body,
        )  # fmt: skip
        taken = self._writer.put(Write(_INSERT_DECISION, values, 320 + len(decision.body)))
        return all([taken, *(self.record_attempt(attempt) for attempt in attempts)])

    def record_attempt(self, attempt: AttemptRecord) -> bool:
        """One that is over later than the answer, such as a hedge that lost."""
        values = (
            attempt.id, attempt.owner, attempt.at, attempt.place, attempt.model, attempt.kind, int(attempt.is_hedge),
            nano_of(attempt.cost_usd), attempt.body,
        )  # fmt: skip
        return self._writer.put(Write(_INSERT_ATTEMPT, values, 320 + len(attempt.body)))


_DECISION = "id, owner, at, route, model, place, policy, propensity, is_exploring, body"
_ATTEMPT = "id, owner, at, place, model, kind, is_hedge, cost_nano_usd, body"
_INSERT_DECISION = f"INSERT INTO decisions ({_DECISION}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_INSERT_ATTEMPT = f"INSERT INTO attempts ({_ATTEMPT}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"


def find(reader: Reader, id: str) -> list[DecisionRecord]:
    """Those of that request, newest first.  Raises Overloaded."""
    sql = f"SELECT {_DECISION} FROM decisions WHERE id = ? ORDER BY number DESC LIMIT 100"
    return [_decision(row) for row in reader.rows_now(sql, (id,))]


def attempts_of(reader: Reader, id: str) -> list[AttemptRecord]:
    """Those of that request, in the order in which they began.  Raises Overloaded."""
    sql = f"SELECT {_ATTEMPT} FROM attempts WHERE id = ? ORDER BY at, number LIMIT 1000"
    return [_attempt(row) for row in reader.rows_now(sql, (id,))]


def between(
    reader: Reader, begin_at: float, end_at: float, policy: str | None = None
) -> Iterator[tuple[DecisionRecord, list[AttemptRecord]]]:
    """Every decision made from `begin_at` until before `end_at` (Unix time), oldest first, each with its attempts.

    Read page by page, so that a month of traffic needs no more memory than a page.  Raises Overloaded.
    """
    sql = (
        f"SELECT number, {_DECISION} FROM decisions WHERE number > ? AND at >= ? AND at < ? "
        f"AND (CAST(? AS TEXT) IS NULL OR policy = ?) ORDER BY number LIMIT {NUM_PAGE}"
    )
    last = 0
    while page := reader.rows_now(sql, (last, begin_at, end_at, policy, policy)):
        attempts = _attempts_of_all(reader, [row[1] for row in page])
        for number, *row in page:
            decision = _decision(tuple(row))
            yield decision, [one for one in attempts.get(decision.id, []) if one.owner == decision.owner]
            last = number


def _attempts_of_all(reader: Reader, ids: list[str]) -> dict[str, list[AttemptRecord]]:
    marks = ", ".join("?" * len(ids))
    sql = f"SELECT {_ATTEMPT} FROM attempts WHERE id IN ({marks}) ORDER BY at, number"
    found: dict[str, list[AttemptRecord]] = {}
    for row in reader.rows_now(sql, ids):
        found.setdefault(row[0], []).append(_attempt(row))
    return found


def cost_usd_since(reader: Reader, begin_at: float, owner: str | None = None) -> float:
    """What all attempts since then cost, of everybody or one owner.  Raises Overloaded."""
    sql = (
        "SELECT CAST(coalesce(sum(cost_nano_usd), 0) AS BIGINT) FROM attempts "
        "WHERE at >= ? AND (CAST(? AS TEXT) IS NULL OR owner = ?)"
    )
    rows = reader.rows_now(sql, (begin_at, owner, owner))
    return usd_of(rows[0][0]) if rows else 0.0


def sweep(now: float) -> list[Write]:
    """Removes what is older than a month, and all but the newest when there are very many."""
    writes = []
    for table in ("decisions", "attempts"):
        writes += [
            Write(f"DELETE FROM {table} WHERE at < ?", (now - KEEP_S,)),
            Write(f"DELETE FROM {table} WHERE number <= (SELECT max(number) FROM {table}) - ?", (NUM_KEPT_MAX,)),
        ]
    return writes


def _decision(row: tuple[Any, ...]) -> DecisionRecord:
    id, owner, at, route, model, place, policy, propensity, is_exploring, body = row
    return DecisionRecord(
        id=str(id), owner=str(owner), at=at, route=str(route), model=str(model), place=str(place),
        policy=str(policy), propensity=propensity, is_exploring=bool(is_exploring), body=body,
    )  # fmt: skip


def _attempt(row: tuple[Any, ...]) -> AttemptRecord:
    id, owner, at, place, model, kind, is_hedge, nano, body = row
    return AttemptRecord(
        id=str(id), owner=str(owner), at=at, place=str(place), model=str(model), kind=str(kind),
        is_hedge=bool(is_hedge), cost_usd=usd_of(nano), body=body,
    )  # fmt: skip
