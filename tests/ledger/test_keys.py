"""A key is shown once and kept as a digest; it is found by that digest, limited as made, and ends when revoked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from isochrone.errors import BadConfig, NotFound, Overloaded
from isochrone.ledger import Key, Ledger, keys
from isochrone.ledger.database import Connection, Where, connect_or_say
from isochrone.ledger.reader import Reader


@pytest.fixture
def connection(where: Where) -> Iterator[Connection]:
    connection = connect_or_say(where)
    yield connection
    connection.close()


def ring(where: Where) -> keys.Keyring:
    made = keys.Keyring(Reader(where))
    made.refresh_now(0.0)
    return made


def test_the_key_itself_is_nowhere_in_the_file(path: Path) -> None:
    connection = connect_or_say(path)
    secret = keys.add(connection, Key(b"", "ann"))
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    everything = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert secret.encode() not in everything and secret[4:].encode() not in everything
    assert keys.digest_of(secret.encode()) in everything


def test_keys_hold_256_bits_and_differ(connection: Connection) -> None:
    made = {keys.add(connection, Key(b"", f"k{at}")) for at in range(50)}
    assert len(made) == 50 and all(len(secret) == 4 + 43 and secret.startswith("iso-") for secret in made)


def test_a_key_is_found_with_its_limits_until_it_is_revoked(where: Where, connection: Connection) -> None:
    secret = keys.add(connection, Key(b"", "ann", ("observe",), 5, 600, 2))
    digest = keys.digest_of(secret.encode())
    key = ring(where).find(digest)
    assert key is not None and key.scopes == ("observe",)
    assert (key.requests_per_min, key.tokens_per_min, key.num_concurrent) == (5, 600, 2)
    keys.revoke(connection, "ann")
    assert ring(where).find(digest) is None and len(ring(where)) == 0
    assert [one.revoked_at is not None for one in keys.every_key(connection)] == [True]


def test_a_name_is_live_once_and_may_come_again_as_another_key(connection: Connection) -> None:
    first = keys.add(connection, Key(b"", "ann"))
    with pytest.raises(BadConfig, match=r"already.*revoke"):
        keys.add(connection, Key(b"", "ann"))
    keys.revoke(connection, "ann")
    second = keys.add(connection, Key(b"", "ann"))
    tenants = {key.tenant for key in keys.every_key(connection)}
    assert first != second and len(tenants) == 2, "a new key must not inherit what an old one stored"


def test_revoking_what_is_not_there_is_said(connection: Connection) -> None:
    with pytest.raises(NotFound, match="no live key"):
        keys.revoke(connection, "nobody")


@pytest.mark.parametrize("name", ["", "x" * 65, "a\nb", "\x1b[31mred"])
def test_a_name_that_could_not_be_shown_is_refused(name: str) -> None:
    with pytest.raises(BadConfig, match="name"):
        Key(b"", name)


@pytest.mark.parametrize("injected", ["'; DROP TABLE keys; --", "a' OR '1'='1", '"', "%", "ann\\"])
def test_sql_in_a_name_is_a_name(connection: Connection, injected: str) -> None:
    keys.add(connection, Key(b"", "bystander"))
    keys.add(connection, Key(b"", injected))
    assert [key.name for key in keys.every_key(connection)] == ["bystander", injected]
    keys.revoke(connection, injected)
    assert [key.name for key in keys.every_key(connection) if key.revoked_at is None] == ["bystander"]


def test_keys_that_cannot_be_read_anew_stay_as_they_were(
    where: Where, connection: Connection, tmp_path: Path
) -> None:
    digest = keys.digest_of(keys.add(connection, Key(b"", "ann")).encode())
    kept = ring(where)
    kept._reader = Reader(tmp_path)  # a directory, which is no database
    with pytest.raises(Overloaded):
        kept.refresh_now(1.0)
    assert kept.find(digest) is not None and kept.refreshed_at == 0.0


def test_a_server_does_not_start_on_a_ledger_that_it_cannot_read(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"no database" * 1000)
    ledger = Ledger(path)
    with pytest.raises(BadConfig, match="cannot be opened"):
        ledger.open(0.0)
