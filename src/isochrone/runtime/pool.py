"""The worker threads: Python threads that enter generated code and stay there until shutdown."""

from __future__ import annotations

import ctypes
import os
import threading
from typing import Any

from ..compiler.driver import WORKERS_MAX, Shared
from ..errors import BadConfig
from .memory import aligned_words

SPINS = 4000
"""Looks at the barrier before a worker parks: about 50 microseconds."""
CHUNKS = 8
"""Chunks per worker into which a region is cut: enough for balance, few enough to stream weights in order."""


def usable_cores() -> int:
    """Cores this process may use: affinity and cgroup quota, at least 1."""
    cores = len(os.sched_getaffinity(0))
    for path in ("/sys/fs/cgroup/cpu.max",):
        try:
            with open(path, encoding="ascii") as file:
                quota, period = file.read().split()
        except (OSError, ValueError):
            continue
        if quota != "max":
            cores = min(cores, max(1, int(quota) // int(period)))
    return cores


class Pool:
    """Workers on one region table.  The thread that calls `step` is worker 0."""

    def __init__(self, library: ctypes.CDLL, num_workers: int) -> None:
        if not 1 <= num_workers <= WORKERS_MAX:
            raise BadConfig(f"{num_workers} threads are not possible.", fix=f"Choose 1 to {WORKERS_MAX}.")
        self._step: Any = library.isochrone_step
        self._worker: Any = library.isochrone_worker
        self._step.argtypes, self._worker.argtypes = [ctypes.c_void_p], [ctypes.c_void_p, ctypes.c_int64]
        self._step.restype = self._worker.restype = None
        self.num_workers = num_workers
        self.shared = aligned_words(Shared.NUM_WORDS)
        self.shared[Shared.WORKERS] = num_workers
        self.shared[Shared.SPINS], self.shared[Shared.CHUNKS] = SPINS, CHUNKS
        self._address = self.shared.ctypes.data
        self._threads: list[threading.Thread] = []

    def start(self, regions: int, panel_begin: int, regions_end: int, context: int) -> None:
        """Tell the workers their table (addresses and counts) and let them in."""
        self.shared[Shared.REGIONS], self.shared[Shared.CONTEXT] = regions, context
        self.shared[Shared.PANEL_BEGIN], self.shared[Shared.REGIONS_END] = panel_begin, regions_end
        for me in range(1, self.num_workers):
            thread = threading.Thread(target=self._worker, args=(self._address, me), name=f"worker-{me}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def step(self) -> None:
        """Run the table once.  Returns when every worker is done."""
        self._step(self._address)

    def close(self) -> None:
        """Let the workers out and wait for them."""
        if self._threads:
            self.shared[Shared.SHUTDOWN] = 1
            self.shared[Shared.PANEL_BEGIN] = self.shared[Shared.REGIONS_END] = 0
            self.step()
            for thread in self._threads:
                thread.join()
            self._threads.clear()
