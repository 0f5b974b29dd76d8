"""`isochrone replay`"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .output import print_json, print_table
from .verb import DURATION, settings_from, verb

if TYPE_CHECKING:
    from isochrone.routing.replay import Estimate

POLICIES = ("cheapest", "fastest", "surest", "p90", "p95", "p99")


@verb("isochrone replay --policy p99", "isochrone replay --policy cheapest --policy fastest --since 3600s --json",
      settings=("ledger",), is_native=False)  # fmt: skip
@click.option("--policy", "names", multiple=True, type=click.Choice(POLICIES),
              help="What to decide by; may be given again.  [default: all]")  # fmt: skip
@click.option("--since", "since_s", type=DURATION, default="24h", help="How far to look back.  [default: a day]")
def command(names: tuple[str, ...], since_s: float, as_json: bool, ledger: str | None) -> None:
    """Estimate what other policies would have come to on the requests that were routed.

    Choices are weighted by one over the probability with which they were made, which the ledger has.  The last column
    says how many requests an estimate really stands on: few means that it says little.
    """
    import time

    from isochrone.config import ledger_where
    from isochrone.routing.replay import RULES, estimate
    from isochrone.routing.replay_ledger import recorded

    now = time.time()
    requests = list(recorded(ledger_where(settings_from({"ledger": ledger})), now - since_s, now + 1.0))
    estimates = [estimate(name, RULES[name], requests) for name in names or POLICIES]
    if as_json:
        return print_json(estimates)
    if not requests:
        return click.echo("No routed request was recorded in that time; --since looks further back.")
    kept = sum(one.kept for one in requests) / len(requests)
    cost_usd = sum(one.cost_usd for one in requests) / len(requests)
    click.echo(f"{len(requests)} requests; as routed {kept:.1%} kept their budget, at {_usd(cost_usd)} each\n")
    print_table(("policy", "in budget", "cost of one", "stands on"), [_row(one) for one in estimates])


def _row(one: Estimate) -> tuple[str, ...]:
    if one.goodput is None or one.goodput_error is None or one.cost_usd is None:
        return one.policy, "-", "-", "0"
    return (
        one.policy, f"{one.goodput:.1%} ± {one.goodput_error:.1%}", _usd(one.cost_usd), f"{one.num_effective:.0f}",
    )  # fmt: skip


def _usd(usd: float) -> str:
    return f"{usd:.6f} USD"
