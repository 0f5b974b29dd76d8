"""`isochrone explain`"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from .output import print_json, print_table
from .verb import settings_from, verb

if TYPE_CHECKING:
    from isochrone.ledger import AttemptRecord, DecisionRecord, Timeline

BAR_CHARS = 40


@verb("isochrone explain 9f2c51d07a6b4e8f", "isochrone explain", "isochrone explain --json", settings=("ledger",),
      is_native=False)  # fmt: skip
@click.argument("id", required=False)
def command(id: str | None, as_json: bool, ledger: str | None) -> None:
    """Show where a request went and why, where its time went, and what was predicted and allowed.

    ID is the answer's x-request-id.  Without one, the latest requests are listed.
    """
    from isochrone.config import ledger_where
    from isochrone.errors import NotFound
    from isochrone.ledger import decisions_of, timelines_of

    where = ledger_where(settings_from({"ledger": ledger}))
    found = timelines_of(where, id)
    decided, attempts = decisions_of(where, id) if id is not None else ([], [])
    if id is not None and not found and not decided:
        raise NotFound(
            f"The ledger has no request {id}.",
            fix="Name an answer's x-request-id, within a week; `isochrone explain` lists the latest.",
        )
    if as_json:
        return print_json(found if not decided else _routed(found, decided, attempts))
    if id is None:
        return _list(found)
    for line in picture(found[0]) if found else ():
        click.echo(line)
    if decided:
        _print_decision(decided[0], attempts)
    if len(found) > 1:
        click.echo(f"\n{len(found) - 1} earlier requests have the same id; --json shows them all.")


def _list(found: list[Timeline]) -> None:
    if not found:
        return click.echo("No request was answered yet.")
    rows = [
        (one.id, _clock(one.at), one.route, str(one.status), _time(one.ttft_s), _time(one.total_s)) for one in found
    ]
    print_table(("id", "at", "route", "status", "first token", "whole"), rows)


def picture(one: Timeline) -> list[str]:
    """A request's timeline as lines of text."""
    ended = one.code or one.ended_by or one.finish_reason or "nothing"
    lines = [
        f"{one.id}  {one.route}  {one.status}  {one.model}  {_clock(one.at)}".replace("    ", "  "),
        f"prompt {one.num_prompt} tokens, {one.num_cached} of them cached; answer {one.num_answer}"
        f"{_guessed(one)}; ended by {ended}",
        "",
        f"{'':12} {'predicted':>10} {'real':>10} {'budget':>10}",
    ]
    for name, predicted_s, real_s, budget_s in (
        ("first token", one.predicted_ttft_s, one.ttft_s, one.budget_ttft_s),
        ("per token", one.predicted_itl_s, one.itl_s, one.budget_itl_s),
        ("whole", None, one.total_s, one.budget_total_s),
    ):
        late = "  late" if budget_s is not None and real_s is not None and real_s > budget_s else ""
        lines.append(f"{name:12} {_time(predicted_s):>10} {_time(real_s):>10} {_time(budget_s):>10}{late}")
    return [*lines, "", *_bars(one)]


def _print_decision(decision: DecisionRecord, attempts: list[AttemptRecord]) -> None:
    """The table of candidates with the reason why each lost, and what became of the attempts."""
    body = _decoded(decision.body)
    rows = body.get("decision", body).get("rows", [])
    chance = "" if decision.propensity >= 1 else f", with probability {decision.propensity:.3f}"
    exploring = ", to learn of it" if decision.is_exploring else ""
    click.echo(f"\n{decision.policy} chose {decision.place or 'no place'}{chance}{exploring}:")
    print_table(
        ("place", "model", "first token p50", "p90", "whole p50", "in budget", "USD", "verdict"),
        [
            (
                row.get("place", ""), row.get("model", ""), _time(_quantile(row, "ttft", "p50_s")),
                _time(_quantile(row, "ttft", "p90_s")), _time(_quantile(row, "total", "p50_s")),
                _share(row.get("p_within")), _usd(row.get("cost_usd")), row.get("verdict", ""),
            )
            for row in rows
        ],
    )  # fmt: skip
    if attempts:
        click.echo("")
        print_table(
            ("attempt", "place", "model", "came to", "USD"),
            [
                (f"{number}{' (hedge)' if one.is_hedge else ''}", one.place, one.model, one.kind, _usd(one.cost_usd))
                for number, one in enumerate(attempts, start=1)
            ],
        )


def _routed(
    found: list[Timeline], decided: list[DecisionRecord], attempts: list[AttemptRecord]
) -> dict[str, list[dict[str, object]]]:
    """All that the ledger has of one id."""
    import msgspec

    def facts(record: DecisionRecord | AttemptRecord) -> dict[str, object]:
        return msgspec.structs.asdict(record) | {"body": _decoded(record.body)}

    return {
        "timelines": [msgspec.to_builtins(one) for one in found],
        "decisions": [facts(one) for one in decided],
        "attempts": [facts(one) for one in attempts],
    }


def _decoded(body: bytes) -> dict[str, Any]:
    import msgspec

    return msgspec.json.decode(body, type=dict[str, Any])


def _quantile(row: dict[str, Any], what: str, which: str) -> float | None:
    return (row.get(what) or {}).get(which)


def _share(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _usd(usd: float | None) -> str:
    return "-" if usd is None else f"{usd:.6f}"


def _bars(one: Timeline) -> list[str]:
    """Each phase as a bar that begins where the one before it ended."""
    phases = [("queue", one.queue_s), ("prefill", one.prefill_s), ("decode", one.decode_s)]
    known = [(name, seconds) for name, seconds in phases if seconds is not None]
    whole_s = max(one.total_s or 0.0, sum(seconds for _, seconds in known))
    if not known or not whole_s:
        return []
    rest_s = whole_s - sum(seconds for _, seconds in known)
    lines, begin_s = [], 0.0
    for name, seconds in [*known, ("elsewhere", rest_s)]:
        begin, end = (round(BAR_CHARS * at / whole_s) for at in (begin_s, begin_s + seconds))
        bar = " " * min(begin, BAR_CHARS - 1) + "█" * max(1, end - begin)
        lines.append(f"{name:12} {_time(seconds):>10}  {bar[:BAR_CHARS]}")
        begin_s += seconds
    return lines


def _guessed(one: Timeline) -> str:
    parts = []
    if one.num_forced:
        parts.append(f"{one.num_forced} forced by its grammar")
    if one.num_drafted:
        parts.append(f"{one.num_drafted} guessed ahead, {one.num_accepted} of them right")
    return f" ({', '.join(parts)})" if parts else ""


def _time(seconds: float | None) -> str:
    from isochrone.units import format_duration

    return "-" if seconds is None else format_duration(seconds)


def _clock(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
