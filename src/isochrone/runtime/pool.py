"""The worker threads: Python threads that enter generated code and stay there until shutdown."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..compiler.driver import WORKERS_MAX, Shared
from ..errors import BadConfig, Unsupported
from .crowding import Crew, after_step
from .memory import aligned_words

SPINS = 4000
"""Looks at the barrier before a worker parks: about 50 microseconds."""
STEP_SPINS = 40_000
"""The same between steps, about half a millisecond: longer than the engine takes between two steps of decode, so that
no step begins with waking somebody up (docs/decisions/0007-wait-for-the-next-step.md)."""
CHUNKS = 8
"""Chunks per worker into which a region is cut: enough for balance, few enough to stream weights in order."""


class Pool:
    """Workers on one region table.  The thread that calls `step` is worker 0."""

    def __init__(self, library: ctypes.CDLL, num_workers: int) -> None:
        if not 1 <= num_workers <= WORKERS_MAX:
            raise BadConfig(f"{num_workers} threads are not possible.", fix=f"Choose 1 to {WORKERS_MAX}.")
        self._step: Any = library.isochrone_step
        self._worker: Any = library.isochrone_worker
        self._step.argtypes, self._step.restype = [ctypes.c_void_p], ctypes.c_int64
        self._worker.argtypes, self._worker.restype = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64], None
        self.shared = aligned_words(Shared.NUM_WORDS)
        self.shared[Shared.WORKERS] = num_workers
        self.shared[Shared.SPINS], self.shared[Shared.STEP_SPINS] = SPINS, STEP_SPINS
        self.shared[Shared.CHUNKS] = CHUNKS
        self._address = self.shared.ctypes.data
        self._crew = Crew(num_workers, num_workers)
        self._waited = 0
        self._threads: dict[int, threading.Thread] = {}
        self._owner = os.getpid()
        # Also when the pool is forgotten or the interpreter ends: a parked worker must not outlive its memory.
        self._leave = weakref.finalize(self, _let_out, library, self.shared, self._threads, self._owner)

    @property
    def num_workers(self) -> int:
        """Workers of the next step: fewer than were asked for while others keep a core busy."""
        return self._crew.num_workers

    def start(self, regions: int, panel_begin: int, regions_end: int, context: int) -> None:
        """Tell the workers their table (addresses and counts) and let them in."""
        self.shared[Shared.REGIONS], self.shared[Shared.CONTEXT] = regions, context
        self.shared[Shared.PANEL_BEGIN], self.shared[Shared.REGIONS_END] = panel_begin, regions_end
        with _undisturbed():
            for me in range(1, self._crew.num_workers):
                self._let_in(me)

    def step(self) -> None:
        """Run the table once.  Returns when every worker is done."""
        if os.getpid() != self._owner:
            raise Unsupported(
                f"This model was loaded by process {self._owner}; its worker threads are not in this fork of it.",
                fix="Load the model after the fork, or start the process with the spawn method.",
            )
        assert self._leave.alive, "a closed runtime runs no step"
        step_cycles = self._step(self._address)
        if self._crew.num_workers_max > 1:
            waited = int(self.shared[Shared.WAITED])
            crew, self._waited = after_step(self._crew, step_cycles, waited - self._waited), waited
            if crew.num_workers == self._crew.num_workers:
                self._crew = crew
            else:
                with _undisturbed():
                    self._resize(crew)

    def close(self) -> None:
        """Let the workers out and wait for them.  A second time, and in a fork, there is nothing to do."""
        self._leave()

    def _let_in(self, me: int) -> None:
        if me in self._threads:
            self._threads[me].join()  # it was spared, and leaves at the latest when it sees the step after that
        arguments = (self._address, me, int(self.shared[Shared.GENERATION]) + 1)
        self._threads[me] = threading.Thread(target=self._worker, args=arguments, name=f"worker-{me}", daemon=True)
        self._threads[me].start()

    def _resize(self, crew: Crew) -> None:
        """Between two steps: a spared worker sees at the next one that it is no longer among them, and leaves."""
        before, num_workers = self._crew.num_workers, crew.num_workers
        for me in range(before, num_workers):
            self._let_in(me)
        # Barriers count arrivals of all workers.  The count only grows: someone may still have to see the last goal.
        rounds = -(-int(self.shared[Shared.ROUNDS]) * before // num_workers)
        self.shared[Shared.ROUNDS : Shared.ROUNDS + 8 * num_workers : 8] = rounds
        self.shared[Shared.ARRIVED] = rounds * num_workers
        self.shared[Shared.WORKERS] = num_workers
        self._crew = crew


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Without signals: Ctrl-C must not leave half a change, and threads started here never take one."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _let_out(
    library: ctypes.CDLL, shared: NDArray[np.int64], threads: dict[int, threading.Thread], owner: int
) -> None:  # fmt: skip
    if os.getpid() != owner:
        return
    shut_down: Any = library.isochrone_shutdown
    shut_down.argtypes, shut_down.restype = [ctypes.c_void_p], None
    shut_down(shared.ctypes.data)
    for thread in threads.values():
        thread.join()
    threads.clear()
