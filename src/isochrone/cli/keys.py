"""`isochrone keys`"""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING

import click

from .output import note, print_json, print_table
from .verb import settings_from, verb

if TYPE_CHECKING:
    from isochrone.ledger import Key
    from isochrone.ledger.database import Connection

_LIMIT = click.IntRange(1, 1 << 52)
_MONEY = click.FloatRange(0, 1e9, min_open=True)


@verb(
    "isochrone keys add laptop",
    "isochrone keys add ci --requests-per-min 60 --tokens-per-min 100000 --concurrent 4",
    "isochrone keys add intern --usd-per-day 2 --usd-total 50",
    "isochrone keys add prometheus --scope observe",
    "isochrone keys list",
    "isochrone keys revoke laptop",
    settings=("ledger",), is_native=False,
)
@click.argument("action", type=click.Choice(["add", "list", "revoke"]))
@click.argument("name", required=False)
@click.option("--requests-per-min", type=_LIMIT, help="Requests that a new key may send in a minute.")
@click.option("--tokens-per-min", type=_LIMIT, help="Tokens of prompts and answers that it may use in a minute.")
@click.option("--concurrent", "num_concurrent", type=_LIMIT, help="Requests that it may have running at once.")
@click.option("--usd-per-day", type=_MONEY, help="Dollars that it may spend from one midnight UTC to the next.")
@click.option("--usd-total", type=_MONEY, help="Dollars that it may spend in all.")
@click.option("--scope", "scopes", multiple=True, type=click.Choice(["infer", "observe"]),
              help="What it is for: asking models, reading metrics; both unless given.")  # fmt: skip
def command(
    action: str, name: str | None, as_json: bool, requests_per_min: int | None, tokens_per_min: int | None,
    num_concurrent: int | None, usd_per_day: float | None, usd_total: float | None, scopes: tuple[str, ...],
    ledger: str | None,
) -> None:  # fmt: skip
    """Make, list and revoke API keys; servers that run notice within five seconds.

    As soon as there is one, requests need one.  A key is shown when it is made, and never again.
    """
    from isochrone.config import ledger_where
    from isochrone.ledger import keys
    from isochrone.ledger.database import connect_or_say

    with closing(connect_or_say(ledger_where(settings_from({"ledger": ledger})))) as connection:
        if action == "list":
            every = keys.every_key(connection)
            return _list(every, [_spent(connection, key) for key in every], as_json=as_json)
        if name is None:
            raise click.UsageError(f"Say which key: isochrone keys {action} NAME")
        if action == "revoke":
            return _revoke(connection, name, as_json=as_json)
        key = keys.Key(
            b"", name, scopes or keys.SCOPES, requests_per_min, tokens_per_min, num_concurrent,
            usd_per_day=usd_per_day, usd_total=usd_total,
        )  # fmt: skip
        secret = keys.add(connection, key)
    if as_json:
        return print_json({"name": name, "key": secret})
    note(f"The key {name}; it is not shown again:")
    click.echo(secret)


def _list(keys: list[Key], spent: list[tuple[float, float]], *, as_json: bool) -> None:
    """spent  dollars of each, today and in all"""
    if as_json:
        return print_json([_facts(key, *usd) for key, usd in zip(keys, spent, strict=True)])
    if not keys:
        return click.echo("There are no keys. Make one: isochrone keys add NAME")
    limits = [(key.requests_per_min, key.tokens_per_min, key.num_concurrent) for key in keys]
    print_table(
        ("name", "state", "scopes", "requests/min", "tokens/min", "at once", "USD today", "USD in all", "made"),
        [
            (
                key.name, "live" if key.revoked_at is None else "revoked", " ".join(key.scopes),
                *("-" if limit is None else str(limit) for limit in limits[at]),
                *_money(key, *spent[at]), _day(key.created_at),
            )
            for at, key in enumerate(keys)
        ],
    )  # fmt: skip


def _spent(connection: Connection, key: Key) -> tuple[float, float]:
    """Dollars: today, and in all."""
    from isochrone.ledger import leases, money

    today, ever = leases.spent(connection, key.tenant, int(time.time() // 86400))
    return money.usd_of(today), money.usd_of(ever)


def _money(key: Key, today: float, ever: float) -> tuple[str, str]:
    """What was spent of what may be."""
    if not key.has_spending_limit:
        return "-", "-"
    cells = ((today, key.usd_per_day), (ever, key.usd_total))
    first, second = (f"{usd:.4f}" + ("" if limit is None else f" of {limit:g}") for usd, limit in cells)
    return first, second


def _revoke(connection: Connection, name: str, *, as_json: bool) -> None:
    from isochrone.ledger import keys

    keys.revoke(connection, name)
    if as_json:
        return print_json({"name": name, "state": "revoked"})
    click.echo(f"The key {name} is revoked; servers that run refuse it within five seconds.")


def _facts(key: Key, usd_today: float, usd_ever: float) -> dict[str, object]:
    return {
        "name": key.name, "tenant": key.tenant, "scopes": list(key.scopes), "requests_per_min": key.requests_per_min,
        "tokens_per_min": key.tokens_per_min, "concurrent": key.num_concurrent, "created_at": key.created_at,
        "revoked_at": key.revoked_at, "usd_per_day": key.usd_per_day, "usd_total": key.usd_total,
        "usd_spent_today": usd_today, "usd_spent": usd_ever,
    }  # fmt: skip


def _day(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))
