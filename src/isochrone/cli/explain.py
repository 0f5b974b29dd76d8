"""`isochrone explain`"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from .output import print_json, print_table
from .verb import verb

if TYPE_CHECKING:
    from isochrone.ledger import Timeline

BAR_CHARS = 40


@verb("isochrone explain 9f2c51d07a6b4e8f", "isochrone explain", "isochrone explain --json", is_native=False)
@click.argument("id", required=False)
def command(id: str | None, as_json: bool) -> None:
    """Show where a request's time went, beside what was predicted and allowed.

    ID is the answer's x-request-id.  Without one, the latest requests are listed.
    """
    from isochrone import paths
    from isochrone.errors import NotFound
    from isochrone.ledger import timelines_of

    found = timelines_of(paths.ledger_path(), id)
    if id is not None and not found:
        raise NotFound(
            f"The ledger has no request {id}.",
            fix="Name an answer's x-request-id, within a week; `isochrone explain` lists the latest.",
        )
    if as_json:
        return print_json(found)
    if id is None:
        return _list(found)
    for line in picture(found[0]):
        click.echo(line)
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
