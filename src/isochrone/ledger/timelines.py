"""What happened to each request, in tokens and seconds, beside what was predicted and allowed.  Never a word of it."""

from __future__ import annotations

import msgspec

from .reader import Reader
from .writer import Write, Writer

KEEP_S = 7 * 24 * 3600.0
KEEP_NUM = 200_000


class Timeline(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One request.  at  Unix time of its first byte;  code  of the error it ended with;  None: not known, not stated

    queue_s, prefill_s, decode_s  where the time of its first answer went, as the engine saw it
    """

    id: str
    owner: str
    at: float
    route: str
    status: int
    model: str = ""
    code: str = ""
    finish_reason: str | None = None
    ended_by: str | None = None
    num_prompt: int = 0
    num_cached: int = 0
    num_answer: int = 0
    num_forced: int = 0
    num_drafted: int = 0
    num_accepted: int = 0
    budget_ttft_s: float | None = None
    budget_itl_s: float | None = None
    budget_total_s: float | None = None
    predicted_ttft_s: float | None = None
    predicted_itl_s: float | None = None
    ttft_s: float | None = None
    itl_s: float | None = None
    total_s: float | None = None
    queue_s: float | None = None
    prefill_s: float | None = None
    decode_s: float | None = None


class Timelines:
    """Takes those of one server."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def record(self, timeline: Timeline) -> bool:
        """Hand one in; False when the ledger's queue is full (which is counted)."""
        facts = msgspec.json.encode(timeline)
        sql = "INSERT INTO timelines (id, owner, at, facts) VALUES (?, ?, ?, ?)"
        values = (timeline.id, timeline.owner, timeline.at, facts)
        return self._writer.put(Write(sql, values, num_bytes=256 + len(facts)))


def find(reader: Reader, id: str) -> list[Timeline]:
    """Those of that id, newest first: callers choose ids, so two may share one.  Raises Overloaded."""
    rows = reader.rows_now("SELECT facts FROM timelines WHERE id = ? ORDER BY number DESC LIMIT 100", (id,))
    return [msgspec.json.decode(facts, type=Timeline) for (facts,) in rows]


def latest(reader: Reader, num_wanted: int) -> list[Timeline]:
    """The newest ones.  Raises Overloaded."""
    rows = reader.rows_now("SELECT facts FROM timelines ORDER BY number DESC LIMIT ?", (num_wanted,))
    return [msgspec.json.decode(facts, type=Timeline) for (facts,) in rows]


def sweep(now: float) -> list[Write]:
    """Removes what is older than a week, and all but the newest when there are very many."""
    return [
        Write("DELETE FROM timelines WHERE at < ?", (now - KEEP_S,)),
        Write("DELETE FROM timelines WHERE number <= (SELECT max(number) FROM timelines) - ?", (KEEP_NUM,)),
    ]
