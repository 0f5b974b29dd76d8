"""Worker threads: they leave when they are let out, stay with their process, and may come and go between steps."""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from isochrone.compiler.isa import choose_target
from isochrone.errors import BadConfig, Unsupported
from isochrone.runtime import pool
from isochrone.runtime.cores import usable_cores
from isochrone.runtime.cpu import CpuRuntime
from isochrone.runtime.crowding import Crew
from isochrone.runtime.load import load_runtime

from .driving import Part, batch, open_runtime, scored
from .small_models import directory

IDS = np.random.default_rng(3).integers(0, 97, 70).astype(np.int32)
PAGES = (2, 0, 1)


@pytest.fixture(scope="module")
def path(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return directory(tmp_path_factory.mktemp("models") / "m", "llama")


@pytest.fixture(autouse=True)
def no_worker_is_left_behind() -> Iterator[None]:
    yield
    assert workers() == []


@pytest.fixture(scope="module")
def expected(path: Path) -> np.ndarray:
    with closing(open_runtime(path, choose_target(), num_threads=1)) as made:
        return scored(made, IDS, PAGES, 70)


def workers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("worker-")]


def started(path: Path, num_threads: int = 3) -> CpuRuntime:
    made = open_runtime(path, choose_target(), num_threads=num_threads)
    assert len(workers()) == num_threads - 1
    return made


@pytest.mark.parametrize("num_rows", [0, 1, 32, 33, 70])
def test_workers_leave_after_a_step_of_any_number_of_logit_rows(path: Path, num_rows: int) -> None:
    made = started(path)
    made.step(batch([Part(IDS, 0, PAGES)], rows=range(num_rows)))
    made.close()
    assert workers() == []
    made.close()


def test_workers_leave_a_runtime_that_never_ran_a_step(path: Path) -> None:
    started(path).close()


def test_workers_leave_a_runtime_that_was_forgotten(path: Path) -> None:
    made = started(path)
    made.step(batch([Part(IDS, 0, PAGES)]))
    del made
    gc.collect()
    assert workers() == []


def test_a_closed_runtime_refuses_a_step(path: Path) -> None:
    made = started(path)
    made.close()
    with pytest.raises(AssertionError, match="closed"):
        made.step(batch([Part(IDS, 0, PAGES)]))


def test_a_fork_is_told_to_load_for_itself_and_cannot_harm_its_parent(path: Path, expected: np.ndarray) -> None:
    with closing(started(path)) as made:
        first = scored(made, IDS[:40], PAGES, 40)
        child = os.fork()
        if child == 0:
            try:
                made.step(batch([Part(IDS[::-1], 0, PAGES)]))
            except Unsupported as error:
                made.close()
                os._exit(0 if "after the fork" in error.fix else 2)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        rest = scored(made, IDS[40:], PAGES, 30, first=40)
        assert np.array_equal(np.append(first[:-1], rest), np.delete(expected, 39))


def test_an_interrupt_while_a_step_runs_leaves_a_runtime_that_works(path: Path, expected: np.ndarray) -> None:
    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    with closing(started(path, 2)) as made:
        try:
            for _ in range(5):
                with pytest.raises(KeyboardInterrupt):
                    signal.setitimer(signal.ITIMER_REAL, 0.003)
                    while True:
                        made.step(batch([Part(IDS[::-1], 0, PAGES)]))
                assert np.array_equal(scored(made, IDS, PAGES, 9), expected)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def test_workers_come_and_go_between_steps_and_change_no_bit(
    path: Path, expected: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(4)
    seen = []

    def any_number(crew: Crew, step_cycles: int, waited_cycles: int) -> Crew:
        assert step_cycles > 0 and waited_cycles >= 0
        seen.append(crew.num_workers)
        return Crew(4, int(rng.integers(1, 5)))

    monkeypatch.setattr(pool, "after_step", any_number)
    with closing(started(path, 4)) as made:
        for _ in range(10):
            assert np.array_equal(scored(made, IDS, PAGES, 6), expected)
    assert set(seen) == {1, 2, 3, 4}


def test_more_threads_than_cores_are_refused(path: Path) -> None:
    cores = usable_cores()
    with pytest.raises(BadConfig, match=f"{cores + 1} threads") as caught:
        load_runtime(path, threads=cores + 1, kv_memory_bytes=1 << 20)
    assert f"--threads {cores}" in caught.value.fix
    with pytest.raises(BadConfig, match="0 threads"):
        load_runtime(path, threads=0, kv_memory_bytes=1 << 20)
