"""What the ledger is told of a routed request, and that it can be read again."""

from __future__ import annotations

from collections.abc import Sequence

from isochrone.ledger.decisions import AttemptRecord, DecisionRecord
from isochrone.places.route import Attempt
from isochrone.routing.journal import LedgerJournal, Routed, read, read_attempt
from isochrone.routing.records import Ask, Decision, Quantiles, Row

ASK = Ask("m", "t", 12, needs=frozenset({"tools"}), route="t/m/chat", ttft_s=0.5, scope="region:eu")
DECISION = Decision(
    ("a", "m"), (("a", "m"), ("b", "m")),
    (Row("a", "m", "chosen", Quantiles(0.1, 0.2, 0.3), Quantiles(1.0, 2.0, 3.0), 0.97, 1e-4), Row("b", "m", "dearer")),
    propensity=0.9, is_exploring=True,
)  # fmt: skip
ATTEMPTS = (
    Attempt("a", "m", "first", 0.01, ended_s=0.6, kind="hedged_out", num_prompt=12, cost_usd=1e-5),
    Attempt("b", "m", "hedge", 0.4, first_s=0.5, ended_s=1.0, kind="answered", num_prompt=12, num_answer=7),
)


class Decisions:
    """What the journal needs of the ledger's."""

    def __init__(self) -> None:
        self.kept: list[tuple[DecisionRecord, Sequence[AttemptRecord]]] = []

    def record(self, decision: DecisionRecord, attempts: Sequence[AttemptRecord] = ()) -> bool:
        self.kept.append((decision, attempts))
        return True


def test_a_record_is_read_again_as_it_was_written() -> None:
    decisions = Decisions()
    journal = LedgerJournal(decisions, unix_time=lambda: 5000.0)  # type: ignore[arg-type]
    journal.record(Routed("id", "t", 2.0, ASK, DECISION, ATTEMPTS, 1e-5))
    ((decision, attempts),) = decisions.kept
    assert (decision.id, decision.owner, decision.at, decision.route) == ("id", "t", 4998.0, "t/m/chat")
    assert (decision.place, decision.model, decision.propensity, decision.is_exploring) == ("a", "m", 0.9, True)
    assert read(decision.body) == (ASK, DECISION)
    assert [read_attempt(one.body) for one in attempts] == list(ATTEMPTS)
    assert [(one.place, one.kind, one.is_hedge, one.at) for one in attempts] == [
        ("a", "hedged_out", False, 4998.01),
        ("b", "answered", True, 4998.4),
    ]


def test_a_refusal_is_recorded_under_the_name_that_was_asked_for() -> None:
    decisions = Decisions()
    refused = Decision(None, (), (Row("a", "m", "breaker open"),))
    LedgerJournal(decisions, unix_time=lambda: 0.0).record(  # type: ignore[arg-type]
        Routed("id", "t", 0.0, ASK, refused, (), 0.0)
    )
    ((decision, attempts),) = decisions.kept
    assert (decision.place, decision.model, list(attempts)) == ("", "m", [])
