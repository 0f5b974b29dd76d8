"""`isochrone replay` over a ledger that a router's journal filled."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from isochrone import paths
from isochrone.cli.app import DONE, MISUSED, run
from isochrone.ledger import Ledger
from isochrone.places.route import Attempt
from isochrone.routing.journal import LedgerJournal, Routed
from isochrone.routing.records import Ask, Decision, Quantiles, Row

ASK = Ask("m", "tenant", 100, ttft_s=1.0, route="chat")
ROWS = (
    Row("cheap", "m", "chosen", Quantiles(0.5, 1.0, 2.0), None, 0.6, 0.001),
    Row("dear", "m", "dearer", Quantiles(0.1, 0.2, 0.3), None, 0.99, 0.01),
    Row("shut", "m", "breaker open"),
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ISOCHRONE_HOME", str(tmp_path))
    return tmp_path


def routed(number: int, place: str, propensity: float, first_s: float, usd: float, *, hedged: bool = False) -> Routed:
    """A request that one place answered;  hedged: after another had been asked in vain."""
    lost = Attempt("shut", "m", "first", 0.0, None, first_s, "hedged_out", num_prompt=100, cost_usd=usd)
    won = Attempt(place, "m", "hedge" if hedged else "first", 0.0, first_s, first_s + 1.0, "answered",
                  num_prompt=100, num_answer=20, cost_usd=usd)  # fmt: skip
    attempts = (lost, won) if hedged else (won,)
    decision = Decision((place, "m"), ((place, "m"),), ROWS, propensity)
    return Routed(f"r{number}", "tenant", 2.0, ASK, decision, attempts, usd * len(attempts))


def fill(recorded: list[Routed], ago_s: float = 60.0) -> None:
    ledger = Ledger(paths.ledger_path())
    ledger.open(0.0)
    journal = LedgerJournal(ledger.decisions, lambda: time.time() - ago_s)
    for one in recorded:
        journal.record(one)
    ledger.close()


def estimates(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, dict[str, float]]:
    assert run(["replay", "--json", *words]) == DONE
    return {one["policy"]: one for one in json.loads(capsys.readouterr().out)}


def test_replay_weighs_what_the_ledger_has_by_how_likely_it_was_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    late, early = 1.5, 0.5
    fill([
        routed(0, "cheap", 0.8, early, 0.001), routed(1, "cheap", 0.8, late, 0.001),
        routed(2, "dear", 0.2, early, 0.01, hedged=True), routed(3, "dear", 0.4, late, 0.01),
    ])  # fmt: skip
    found = estimates(capsys, "--policy", "cheapest", "--policy", "surest")
    assert {one["num_requests"] for one in found.values()} == {4}
    assert found["cheapest"]["num_same"] == 2 and found["cheapest"]["goodput"] == pytest.approx(0.5)
    assert found["cheapest"]["cost_usd"] == pytest.approx(0.001)
    surest = found["surest"]  # weights 5 and 2.5: the kept one counts twice, and both its attempts were paid for
    assert surest["goodput"] == pytest.approx(5 / 7.5)
    assert surest["cost_usd"] == pytest.approx((5 * 0.02 + 2.5 * 0.01) / 7.5)
    assert surest["num_effective"] == pytest.approx(7.5**2 / (25 + 6.25))


def test_replay_looks_as_far_back_as_it_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    fill([routed(0, "cheap", 1.0, 0.5, 0.001)], ago_s=7200.0)
    assert estimates(capsys, "--policy", "cheapest", "--since", "3600s")["cheapest"]["num_requests"] == 0
    assert estimates(capsys, "--policy", "cheapest", "--since", "3h")["cheapest"]["num_requests"] == 1
    assert run(["replay", "--since", "60s"]) == DONE
    assert "No routed request" in capsys.readouterr().out


def test_replay_is_read_by_people_too(capsys: pytest.CaptureFixture[str]) -> None:
    fill([routed(0, "cheap", 0.5, 0.5, 0.001), routed(1, "dear", 0.5, 1.5, 0.01)])
    assert run(["replay"]) == DONE
    out = capsys.readouterr().out
    assert "2 requests; as routed 50.0% kept their budget" in out
    cheapest, surest = (next(line for line in out.splitlines() if line.startswith(name)) for name in ("cheap", "sur"))
    assert "100.0%" in cheapest and "0.0%" in surest
    assert run(["replay", "--policy", "luck"]) == MISUSED
