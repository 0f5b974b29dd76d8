"""`isochrone keys`, `explain` and `verify`, as people run them."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from isochrone import paths
from isochrone.cli.app import DONE, FAILED, MISUSED, run
from isochrone.cli.explain import picture
from isochrone.ledger import AttemptRecord, DecisionRecord, Ledger, Timeline
from isochrone.places.place import Receipt, Sampling

TIMELINE = Timeline(
    id="abc", owner="local", at=1e9, route="/v1/chat/completions", status=200, model="tiny", finish_reason="stop",
    num_prompt=120, num_cached=96, num_answer=64, num_forced=12, num_drafted=20, num_accepted=18,
    budget_ttft_s=0.3, budget_total_s=0.4, predicted_ttft_s=0.041, predicted_itl_s=0.006,
    ttft_s=0.043, itl_s=0.0064, total_s=0.45, queue_s=0.002, prefill_s=0.041, decode_s=0.4,
)  # fmt: skip


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ISOCHRONE_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    """Closed by the test before a command reads what it wrote."""
    ledger = Ledger(paths.ledger_path())
    ledger.open(0.0)
    yield ledger


def test_a_key_is_made_listed_and_revoked(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["keys", "add", "ann", "--requests-per-min", "60", "--scope", "infer"]) == DONE
    secret = capsys.readouterr().out.strip()
    assert secret.startswith("iso-") and len(secret) == 47
    assert run(["keys", "list", "--json"]) == DONE
    out = capsys.readouterr().out
    (key,) = json.loads(out)
    assert (key["name"], key["requests_per_min"], key["scopes"], key["revoked_at"]) == ("ann", 60, ["infer"], None)
    assert secret not in out and secret[4:] not in out
    assert run(["keys", "revoke", "ann"]) == DONE
    assert run(["keys", "list"]) == DONE
    assert "revoked" in capsys.readouterr().out
    assert run(["keys", "revoke", "ann"]) == FAILED


@pytest.mark.parametrize("words", [["add"], ["revoke"], ["frob"], ["add", "a", "--tokens-per-min", "0"], ["add", ""]])
def test_a_misused_command_says_so(words: list[str]) -> None:
    assert run(["keys", *words]) == MISUSED


def test_the_ledger_is_its_owners_alone(home: Path) -> None:
    run(["keys", "add", "ann"])
    assert stat.S_IMODE(paths.ledger_path().stat().st_mode) == 0o600


def test_explain_shows_predicted_real_and_allowed_and_where_the_time_went(
    ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger.timelines.record(TIMELINE)
    ledger.close()
    assert run(["explain", "abc"]) == DONE
    lines = capsys.readouterr().out.splitlines()
    assert "120 tokens, 96 of them cached; answer 64 (12 forced by its grammar, 20 guessed ahead, 18" in lines[1]
    table = {line[:12].strip(): line[12:].split("  ") for line in lines}
    assert [cell.strip() for cell in table["first token"] if cell.strip()] == ["41 ms", "43 ms", "300 ms"]
    assert table["whole"][-1] == "late"
    assert run(["explain", "abc", "--json"]) == DONE
    assert json.loads(capsys.readouterr().out)[0]["decode_s"] == 0.4
    assert run(["explain"]) == DONE
    assert "abc" in capsys.readouterr().out


def test_explain_shows_each_candidate_with_why_it_lost_and_every_attempt(
    ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"place": "edge", "model": "tiny", "verdict": "chosen", "ttft": {"p50_s": 0.04, "p90_s": 0.06, "p99_s": 0.1},
         "total": {"p50_s": 1.0, "p90_s": 1.2, "p99_s": 2.0}, "p_within": 0.97, "cost_usd": 0.0},
        {"place": "cloud", "model": "big", "verdict": "outside region:eu"},
    ]  # fmt: skip
    body = msgspec.json.encode({"decision": {"rows": rows}})
    decision = DecisionRecord(id="abc", owner="o", at=1e9, place="edge", policy="isochrone", propensity=0.9, body=body)
    attempts = [
        AttemptRecord(id="abc", owner="o", at=1e9, place="edge", model="tiny", kind="failed"),
        AttemptRecord(id="abc", owner="o", at=1e9 + 1, place="lan", model="tiny", kind="answered", is_hedge=True,
                      cost_usd=0.00125),
    ]  # fmt: skip
    assert ledger.timelines.record(TIMELINE) and ledger.decisions.record(decision, attempts)
    ledger.close()
    assert run(["explain", "abc"]) == DONE
    out = capsys.readouterr().out
    assert "isochrone chose edge, with probability 0.900" in out and "97.0 %" in out
    assert "outside region:eu" in out and "2 (hedge)" in out and "0.001250" in out
    assert run(["explain", "abc", "--json"]) == DONE
    told = json.loads(capsys.readouterr().out)
    assert [one["kind"] for one in told["attempts"]] == ["failed", "answered"]
    assert told["decisions"][0]["body"]["decision"]["rows"][1]["verdict"] == "outside region:eu"


def test_a_key_with_a_spending_limit_shows_what_it_spent_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["keys", "add", "ann", "--usd-per-day", "2.5", "--usd-total", "50"]) == DONE
    assert run(["keys", "list", "--json"]) == DONE
    (key,) = json.loads(capsys.readouterr().out.split("\n", 1)[1])
    assert (key["usd_per_day"], key["usd_total"], key["usd_spent_today"], key["usd_spent"]) == (2.5, 50, 0, 0)
    assert run(["keys", "list"]) == DONE
    assert "0.0000 of 2.5" in capsys.readouterr().out
    assert run(["keys", "add", "bob", "--usd-total", "0"]) == MISUSED


def test_the_bars_follow_one_another_and_fill_the_whole() -> None:
    bars = [line for line in picture(TIMELINE) if "█" in line]
    assert [line.split()[0] for line in bars] == ["queue", "prefill", "decode", "elsewhere"]
    begins = [line.index("█") for line in bars]
    assert begins == sorted(begins)
    assert sum(line.count("█") for line in bars) in range(39, 44)


def test_a_request_that_failed_early_is_explained_too() -> None:
    early = Timeline(id="x", owner="o", at=0.0, route="/v1/completions", status=503, code="budget_unreachable")
    assert "ended by budget_unreachable" in picture(early)[1]


def test_an_unknown_request_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "nothing"]) == FAILED
    assert "no request nothing" in capsys.readouterr().err
    assert run(["explain"]) == DONE


RECEIPT = Receipt("", "plan", 7, 0, Sampling(temperature=0.0), (1, 2), (3, 4), "smollm2-135m")


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b"nonsense", b'{"isochrone": {}}', b"[" * 100_000, b'{"model_hash": 1}', b"\xff\xfe",
     msgspec.json.encode(RECEIPT)[:-20]],
)  # fmt: skip
def test_what_is_no_receipt_is_refused_before_anything_is_loaded(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "receipt.json").write_bytes(content)
    assert run(["verify", str(tmp_path / "receipt.json")]) == MISUSED


@pytest.mark.model
def test_an_answer_is_computed_again_token_for_token_and_a_forged_one_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real model: greedy and drawn, one of three samples; then one token is changed."""
    monkeypatch.delenv("ISOCHRONE_HOME")
    import isochrone
    from isochrone.api.verifying import to_submit

    drawn = Sampling(temperature=0.8, top_p=0.9, frequency_penalty=0.2)
    made: list[Receipt] = []
    with isochrone.load("smollm2-135m") as model:
        plan_hash = model._engine.info.plan_hash
        for sampling, sample in ((Sampling(temperature=0.0), 0), (drawn, 2)):
            asked = Receipt("", plan_hash, 7, sample, sampling, (504, 3575, 282), (0,) * 12, "smollm2-135m")
            deltas = model._engine.submit(to_submit(asked))
            ids = tuple(id for delta in deltas if delta.sample == sample for id in delta.token_ids)
            assert len(ids) == 12
            made.append(msgspec.structs.replace(asked, answer_ids=ids))
    file = tmp_path / "receipt.json"
    file.write_bytes(msgspec.json.encode(made))
    assert run(["verify", str(file)]) == DONE
    assert capsys.readouterr().out.count("All 12 tokens came again") == 2
    forged = msgspec.structs.replace(made[1], answer_ids=(*made[1].answer_ids[:7], 5, *made[1].answer_ids[8:]))
    file.write_bytes(msgspec.json.encode({"isochrone": {"receipt": msgspec.to_builtins(forged)}}))
    assert run(["verify", str(file), "--json"]) == FAILED
    (verdict,) = json.loads(capsys.readouterr().out)
    assert (verdict["num_same"], verdict["is_same"], verdict["same_numbers"]) == (7, False, True)
    assert run(["verify", str(file), "--model", "smollm2-135m", "--threads", "1"]) == FAILED
    assert "7 of 12 tokens came again" in capsys.readouterr().out
