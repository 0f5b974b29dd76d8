"""A ledger of its own for each test, in SQLite and in PostgreSQL, and a way to wait for its writer."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks import postgres_server
from isochrone.ledger import Ledger
from isochrone.ledger.database import Store, Where, store_of

_numbers = itertools.count()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "ledger.db"


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """Of a server for all tests.  Where there is none, CI fails and others skip."""
    programs = postgres_server.binaries()
    if programs is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(postgres_server.MISSING)
    with postgres_server.running(programs) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Where:
    """An empty ledger: a file, or a schema of its own in the one PostgreSQL."""
    if request.param == "sqlite":
        return tmp_path / "state" / "ledger.db"
    return schema_in(request.getfixturevalue("postgres_url"))


def schema_in(url: str) -> str:
    """The URL of an empty schema."""
    import psycopg

    name = f"test_{next(_numbers)}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}")  # type: ignore[call-overload]
    return f"{url}&options=-csearch_path%3D{name}"


@pytest.fixture
def store(where: Where) -> Store:
    return store_of(where)


@pytest.fixture
def ledger(where: Where) -> Iterator[Ledger]:
    ledger = Ledger(where)
    ledger.open(0.0)
    yield ledger
    ledger.close()


@pytest.fixture
def wait_for() -> Callable[[Callable[[], bool]], None]:
    """Returns once something in another thread holds."""

    def wait(is_so: Callable[[], bool]) -> None:
        turn = threading.Event()
        for _ in range(10_000):
            if is_so():
                return
            turn.wait(0.001)
        raise AssertionError("it did not happen within ten seconds")

    return wait
