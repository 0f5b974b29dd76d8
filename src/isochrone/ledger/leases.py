"""What gateways may spend for a key: leases of its money, taken in a transaction, so that their sum is never too large.

    limit of the key  >=  sum over its leases of the larger of (granted, spent)

A lease belongs to one gateway, one key and one day.  While the gateway lives, it alone writes the lease, and it spends
from it without asking anybody.  A gateway that is silent for too long loses what it has not spent: all of it counts as
spent until then, and what its requests held counts as spent for ever after, since nobody can know what they cost.
"""

from __future__ import annotations

from dataclasses import dataclass

from isochrone.errors import SpendingHeld, SpendingLimit

from .database import Connection, Store
from .money import usd_of

GROWTH = 256
"""A lease is for about so many requests like the one that asks for it ..."""
SHARE = 8
"""... but for no more than this part of what is left: a crash withholds it for a while, and others need some too."""

PAST = "past"
"""The gateway that stands for all that are over, on days long past."""
FOLDED_AFTER_DAYS = 7
FORGOTTEN_AFTER_S = 30 * 24 * 3600.0
_LARGER = "CASE WHEN granted_nano_usd > spent_nano_usd THEN granted_nano_usd ELSE spent_nano_usd END"

class Fenced(Exception):
    """This gateway was silent for so long that its leases were taken back."""


@dataclass(frozen=True, slots=True)
class Left:
    """What remains of a key's limits, in billionths.

    unleased  what no gateway has;  unspent: with what gateways have and may not need
    """

    unleased: int
    unspent: int


def lease_of(need: int, unleased: int) -> int:
    """How much to take where `need` is needed; `need` must be there."""
    return max(need, min(unleased // SHARE, need * GROWTH))


def register(connection: Connection, now: float, gateway: str) -> None:
    """A gateway begins."""
    connection.execute("INSERT INTO gateways (id, beat_at, is_over) VALUES (?, ?, 0)", (gateway, now))


def beat(connection: Connection, now: float, gateway: str) -> None:
    """It lives.  Raises Fenced."""
    sql = "UPDATE gateways SET beat_at = ? WHERE id = ? AND is_over = 0"
    if connection.execute(sql, (now, gateway)).rowcount == 0:
        raise Fenced


def grant(
    connection: Connection, store: Store, *, gateway: str, digest: bytes, owner: str, day: int, granted: int,
    spent_so_far: int, need: int,
) -> int:  # fmt: skip
    """Raise the gateway's lease, which is `granted` so far, by at least `need`.  Returns what it is then.

    Raises Fenced, SpendingLimit, and SpendingHeld where money is left that running requests may need.
    """
    beat(connection, store.now(connection), gateway)
    sql = f"SELECT name, per_day_nano_usd, total_nano_usd FROM keys WHERE digest = ?{store.for_update}"
    row = connection.execute(sql, (digest,)).fetchone()  # of two gateways that ask for one key, one waits here
    if row is None:
        raise SpendingLimit("The key is not known any more.", fix="Make one: isochrone keys add NAME")
    name, per_day, total = row
    connection.execute(SET_SPENT, (gateway, owner, day, spent_so_far))
    left = _left(connection, owner, day, per_day, total)
    if left.unleased < need:
        raise _refusal(str(name), left, need)
    granted += lease_of(need, left.unleased)
    set_granted(connection, gateway, owner, day, granted)
    return granted


def set_granted(connection: Connection, gateway: str, owner: str, day: int, granted: int) -> None:
    """Write down what a gateway has."""
    sql = (
        "INSERT INTO leases (gateway, owner, day, granted_nano_usd, spent_nano_usd) VALUES (?, ?, ?, ?, 0) "
        "ON CONFLICT (owner, day, gateway) DO UPDATE SET granted_nano_usd = excluded.granted_nano_usd"
    )
    connection.execute(sql, (gateway, owner, day, granted))


SET_SPENT = (
    "INSERT INTO leases (gateway, owner, day, granted_nano_usd, spent_nano_usd) VALUES (?, ?, ?, 0, ?) "
    "ON CONFLICT (owner, day, gateway) DO UPDATE SET spent_nano_usd = "
    "CASE WHEN leases.spent_nano_usd > excluded.spent_nano_usd THEN leases.spent_nano_usd "
    "ELSE excluded.spent_nano_usd END"
)
"""What a gateway has spent, all of it: written twice, or late, it is written once."""
ADD_HOLD = "INSERT INTO holds (id, gateway, owner, day, nano_usd) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
DROP_HOLD = "DELETE FROM holds WHERE id = ?"


def reclaim(connection: Connection, now: float, silent_s: float) -> int:
    """Take back what gateways that were silent for so long have not spent and not held.  Returns how many they are."""
    dead = "beat_at < ? AND is_over = 0"
    found = connection.execute(f"SELECT id FROM gateways WHERE {dead}", (now - silent_s,)).fetchall()
    ended = [
        gateway for (gateway,) in found
        if connection.execute(f"UPDATE gateways SET is_over = 1 WHERE id = ? AND {dead}", (gateway, now - silent_s))
        .rowcount
    ]  # fmt: skip
    for gateway in ended:
        connection.execute(
            "UPDATE leases SET granted_nano_usd = spent_nano_usd + coalesce((SELECT CAST(sum(nano_usd) AS BIGINT) "
            "FROM holds WHERE holds.gateway = leases.gateway AND holds.owner = leases.owner AND holds.day = leases.day)"
            ", 0) WHERE gateway = ?", (gateway,),
        )  # fmt: skip
    return len(ended)


def fold(connection: Connection, store: Store, now: float, before_day: int) -> None:
    """Add up what gateways that are over have spent on days long past, so that a grant adds few rows."""
    make = "INSERT INTO gateways (id, beat_at, is_over) VALUES (?, ?, 1) ON CONFLICT DO NOTHING"
    connection.execute(make, (PAST, now))
    connection.execute(f"SELECT id FROM gateways WHERE id = ?{store.for_update}", (PAST,)).fetchall()  # one folds
    over = f"day < ? AND gateway IN (SELECT id FROM gateways WHERE is_over = 1 AND id <> '{PAST}')"
    connection.execute(
        f"INSERT INTO leases (gateway, owner, day, granted_nano_usd, spent_nano_usd) SELECT '{PAST}', owner, day, "
        f"CAST(sum({_LARGER}) AS BIGINT), CAST(sum({_LARGER}) AS BIGINT) FROM leases WHERE {over} GROUP BY owner, day "
        "ON CONFLICT (owner, day, gateway) DO UPDATE SET "
        "granted_nano_usd = leases.granted_nano_usd + excluded.granted_nano_usd, "
        "spent_nano_usd = leases.spent_nano_usd + excluded.spent_nano_usd", (before_day,),
    )  # fmt: skip
    connection.execute(f"DELETE FROM leases WHERE {over}", (before_day,))
    connection.execute(f"DELETE FROM holds WHERE {over}", (before_day,))
    connection.execute(
        "DELETE FROM gateways WHERE is_over = 1 AND beat_at < ? AND id <> ? "
        "AND id NOT IN (SELECT gateway FROM leases)", (now - FORGOTTEN_AFTER_S, PAST),
    )  # fmt: skip


def end(connection: Connection, gateway: str) -> None:
    """A gateway that has settled everything is over, and leaves nothing withheld."""
    connection.execute("UPDATE leases SET granted_nano_usd = spent_nano_usd WHERE gateway = ?", (gateway,))
    connection.execute("UPDATE gateways SET is_over = 1 WHERE id = ?", (gateway,))


def spent(connection: Connection, owner: str, day: int) -> tuple[int, int]:
    """(on that day, in all) of what a key's requests came to, those included that nobody can know of any more."""
    sql = (
        "SELECT CAST(coalesce(sum(CASE WHEN day = ? THEN spent END), 0) AS BIGINT), "
        f"CAST(coalesce(sum(spent), 0) AS BIGINT) FROM ({_SPENT}) AS every"
    )
    row = connection.execute(sql, (day, owner)).fetchone()
    return int(row[0]), int(row[1])


_SPENT = (
    f"SELECT day, CASE WHEN is_over = 1 THEN {_LARGER} ELSE spent_nano_usd END AS spent, {_LARGER} AS taken "
    "FROM leases JOIN gateways ON gateways.id = leases.gateway WHERE owner = ?"
)


def _left(connection: Connection, owner: str, day: int, per_day: int | None, total: int | None) -> Left:
    sql = (
        "SELECT CAST(coalesce(sum(CASE WHEN day = ? THEN taken END), 0) AS BIGINT), "
        f"CAST(coalesce(sum(taken), 0) AS BIGINT) FROM ({_SPENT}) AS every"
    )
    taken_today, taken = connection.execute(sql, (day, owner)).fetchone()
    spent_today, spent_ever = spent(connection, owner, day)
    far = 1 << 62
    return Left(
        min(far if per_day is None else per_day - taken_today, far if total is None else total - taken),
        min(far if per_day is None else per_day - spent_today, far if total is None else total - spent_ever),
    )


def _refusal(name: str, left: Left, need: int) -> SpendingLimit | SpendingHeld:
    what = f"This request can cost {usd_of(need):.6f} dollars"
    if left.unspent < need:
        return SpendingLimit(
            f"{what}, and the key {name} may spend {usd_of(max(0, left.unspent)):.6f} more.",
            fix="Lower max_tokens, or wait for a new day or a higher limit.",
        )
    return SpendingHeld(
        f"{what}; the key {name} has {usd_of(max(0, left.unleased)):.6f} beside what its running requests may need.",
        fix="Ask again when some of them are over, or lower max_tokens.", retry_after_s=1.0,
    )  # fmt: skip
