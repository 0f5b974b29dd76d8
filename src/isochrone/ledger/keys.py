"""API keys: 256 random bits, of which the ledger keeps only the SHA-256 digest; found by digest, named for people."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from isochrone.errors import BadConfig, NotFound

from .database import Connection
from .money import MOST_USD, nano_of, usd_of
from .reader import Reader

Scope: TypeAlias = Literal["infer", "observe"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
"""infer: ask models, and read what one stored oneself.  observe: metrics and the version."""
PREFIX = "iso-"
_COLUMNS = (
    "digest, name, scopes, requests_per_min, tokens_per_min, num_concurrent, created_at, revoked_at, "
    "per_day_nano_usd, total_nano_usd"
)


@dataclass(frozen=True, slots=True)
class Key:
    """What is known of a key; the key itself is not.

    requests_per_min, tokens_per_min, num_concurrent  None is unlimited
    created_at, revoked_at                            Unix time
    usd_per_day, usd_total                            what it may spend; a day begins at midnight UTC
    """

    digest: bytes
    name: str
    scopes: tuple[str, ...] = SCOPES
    requests_per_min: int | None = None
    tokens_per_min: int | None = None
    num_concurrent: int | None = None
    created_at: float = 0.0
    revoked_at: float | None = None
    usd_per_day: float | None = None
    usd_total: float | None = None

    def __post_init__(self) -> None:
        if not (0 < len(self.name) <= 64 and self.name.isprintable()):
            raise BadConfig("A key's name has 1 to 64 printable characters.", fix="Name it after whoever uses it.")
        if unknown := set(self.scopes) - set(SCOPES):
            raise BadConfig(f"There is no scope {min(unknown)!r}.", fix=f"Use {' or '.join(SCOPES)}.")
        for what in ("requests_per_min", "tokens_per_min", "num_concurrent"):
            value = getattr(self, what)
            if value is not None and not 1 <= value < 1 << 53:
                raise BadConfig(f"{what} is {value}, which is no limit.", fix="Give at least 1, or leave it out.")

        for what in ("usd_per_day", "usd_total"):
            value = getattr(self, what)
            if value is not None and not 0 < value <= MOST_USD:
                raise BadConfig(
                    f"{what} is {value}, which is no limit.", fix=f"Give a sum up to {MOST_USD:,.0f}, or leave it out."
                )

    @property
    def has_spending_limit(self) -> bool:
        """Whether what it spends must be counted before it is spent."""
        return self.usd_per_day is not None or self.usd_total is not None

    @property
    def tenant(self) -> str:
        """Whose prefixes, drafts and stored responses a request with this key may share."""
        return tenant_of(self.digest)


def digest_of(key: bytes) -> bytes:
    """What is kept of a key.  One round is enough: the key has 256 random bits, so there is nothing to guess."""
    return hashlib.sha256(key).digest()


def tenant_of(digest: bytes) -> str:
    return digest.hex()[:16]


def add(connection: Connection, key: Key) -> str:
    """Make a key with these properties (its digest is made here).  Returns the key, which is never seen again.

    Raises BadConfig when a live key has that name.
    """
    import secrets  # of no use to a server

    secret = PREFIX + secrets.token_urlsafe(32)
    limits = (key.requests_per_min, key.tokens_per_min, key.num_concurrent)
    money = tuple(None if usd is None else nano_of(usd) for usd in (key.usd_per_day, key.usd_total))
    values = (digest_of(secret.encode()), key.name, ",".join(key.scopes), *limits, time.time(), None, *money)
    sql = f"INSERT INTO keys ({_COLUMNS}) VALUES ({', '.join('?' * len(values))}) ON CONFLICT DO NOTHING"
    if connection.execute(sql, values).rowcount == 0:
        raise BadConfig(
            f"There is a key named {key.name} already.",
            fix=f"Take another name, or revoke it first: isochrone keys revoke {key.name}",
        )
    return secret


def revoke(connection: Connection, name: str) -> None:
    """End a key.  Servers that run notice within five seconds.  Raises NotFound."""
    sql = "UPDATE keys SET revoked_at = ? WHERE name = ? AND revoked_at IS NULL"
    if connection.execute(sql, (time.time(), name)).rowcount == 0:
        raise NotFound(f"There is no live key named {name}.", fix="See `isochrone keys list`.")


def every_key(connection: Connection) -> list[Key]:
    """All keys, revoked ones included, oldest first."""
    return [_key(row) for row in connection.execute(f"SELECT {_COLUMNS} FROM keys ORDER BY created_at")]


class Keyring:
    """The live keys as of the last `refresh`, found by digest.  Finding one reads no disk."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._keys: dict[bytes, Key] = {}
        self.refreshed_at = 0.0

    def find(self, digest: bytes) -> Key | None:
        return self._keys.get(digest)

    def __len__(self) -> int:
        return len(self._keys)

    def all(self) -> list[Key]:
        """Every live key."""
        return list(self._keys.values())

    async def refresh(self, now: float) -> None:
        """Read the keys anew; now  monotonic.  Raises Overloaded, and then the keys stay as they were."""
        self._fill(await self._reader.rows(_LIVE), now)

    def refresh_now(self, now: float) -> None:
        """`refresh`, for whoever may wait."""
        self._fill(self._reader.rows_now(_LIVE), now)

    def _fill(self, rows: list[tuple[object, ...]], now: float) -> None:
        self._keys = {key.digest: key for key in map(_key, rows)}
        self.refreshed_at = now


_LIVE = f"SELECT {_COLUMNS} FROM keys WHERE revoked_at IS NULL"


def _key(row: tuple[Any, ...]) -> Key:
    digest, name, scopes, *rest, per_day, total = row
    money = (None if nano is None else usd_of(nano) for nano in (per_day, total))
    return Key(digest, name, tuple(str(scopes).split(",")), *rest, *money)
