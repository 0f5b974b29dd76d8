"""A ledger in a directory of its own, and a way to wait for its writer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from isochrone.ledger import Ledger


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "ledger.db"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    ledger = Ledger(path)
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
