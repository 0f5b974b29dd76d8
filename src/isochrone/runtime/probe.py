"""Measure what this machine can do at most: memory and caches, int8, bf16 and fp32 units, clock, barrier.

    profile = measure_machine(choose_target(), measured_on="2026-11-24")

Takes a few seconds.  A rate is that of the best of several rounds, the barrier's cost their median; threads are
pinned to cores of their own and start together.  What else runs on the machine is in the figures: probe a quiet one.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isochrone.compiler.codegen import emit_object
from isochrone.compiler.isa import Target
from isochrone.compiler.link import link_shared
from isochrone.compiler.llvm import print_module
from isochrone.errors import Unsupported
from isochrone.profile import CacheLevel, MachineProfile, PerThreads

from .probe_kernels import BARRIER_TEXT, NUM_ACCUMULATORS, ProbeKernel, build_probe_kernels

ROUND_S = 0.02
"""How long one round aims to take: long against the start of threads, short against a scheduler's patience."""
NUM_ROUNDS = 5
NUM_ROUNDS_AT_ONCE = 1000
"""Barriers crossed in one round, or fewer when threads do not own their cores."""
MEMORY_BYTES_MIN = 256 << 20
SYSFS = Path("/sys/devices/system/cpu/cpu0")

Bytes = NDArray[np.uint8]
Function = Callable[[int, int, int, int, int], None]
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Cache:
    """A data cache as the kernel describes it."""

    name: str
    capacity_bytes: int
    is_shared: bool


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a probe may take, and which of its rounds counts.

    picks_best    the best round, as a ceiling should; else the median, to compare with medians
    memory_bytes  what stands for uncached memory; 0 sizes it by the caches
    """

    round_s: float = ROUND_S
    num_rounds: int = NUM_ROUNDS
    memory_bytes: int = 0
    picks_best: bool = True


class Prober:
    """The loaded kernels and the cores they run on.  Use as a context: it owns threads and memory."""

    def __init__(self, target: Target, cpus: Sequence[int], limits: Limits) -> None:
        self.target = target
        self.cpus = tuple(cpus)
        self.limits = limits
        self.kernels = build_probe_kernels(target)
        self._library = load_kernels(target, self.kernels)
        self._threads = ThreadPoolExecutor(len(self.cpus), thread_name_prefix="probe")

    def __enter__(self) -> Prober:
        return self

    def __exit__(self, *exception: object) -> None:
        self._threads.shutdown()

    def function(self, name: str) -> Function:
        """A kernel as a Python function; it runs with the GIL released."""
        function = self._library[f"probe_{name}"]
        function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64]
        function.restype = None
        found: Function = function
        return found

    def seconds(self, function: Function, tables: Sequence[int], num_items: int) -> float:
        """Wall time of one call in each thread, from the first start to the last end; tables[i] is thread i's."""
        gate = threading.Barrier(len(tables))

        def work(index: int) -> tuple[float, float]:
            os.sched_setaffinity(0, {self.cpus[index]})
            gate.wait()
            began_at = time.perf_counter()
            function(0, tables[index], 0, num_items, index)
            return began_at, time.perf_counter()

        spans = list(self._threads.map(work, range(len(tables))))
        return max(end for _, end in spans) - min(begin for begin, _ in spans)

    def per_item_s(self, function: Function, tables: Sequence[int]) -> float:
        """Seconds per work item, with as many items as fill a round."""
        num_items, seconds = 1, self.seconds(function, tables, 1)
        while seconds < self.limits.round_s / 4:
            num_items *= 4
            seconds = self.seconds(function, tables, num_items)
        num_items = max(1, round(num_items * self.limits.round_s / seconds))
        rounds = [self.seconds(function, tables, num_items) for _ in range(self.limits.num_rounds)]
        return (min(rounds) if self.limits.picks_best else statistics.median(rounds)) / num_items

    def compute(self, name: str, threads: int) -> float:
        """Operations per second of all threads together."""
        tables = [_table(_operands(), _result()) for _ in range(threads)]
        item_s = self.per_item_s(self.function(name), [table.address for table in tables])
        return threads * self.kernels[name].num_operations / item_s

    def read(self, address: int, num_bytes: int, threads: int) -> float:
        """Bytes per second when the threads read num_bytes in all, each its own part, again and again."""
        step = 8 * 4 * self.target.lanes
        share = num_bytes // threads // step * step
        tables = [_table(address + index * share, _result(), share) for index in range(threads)]
        item_s = self.per_item_s(self.function("read"), [table.address for table in tables])
        return threads * share / item_s

    def barrier_s(self, threads: int) -> float:
        """Seconds that one crossing takes."""
        if threads == 1:
            return 0.0
        rounds = []
        for _ in range(self.limits.num_rounds):
            counter = _aligned(64)
            tables = [_table(counter, _result(), threads) for _ in range(threads)]
            addresses = [table.address for table in tables]
            rounds.append(self.seconds(self.function("barrier"), addresses, NUM_ROUNDS_AT_ONCE) / NUM_ROUNDS_AT_ONCE)
        return statistics.median(rounds)


def measure_machine(
    target: Target,
    *,
    measured_on: str,
    cpus: Sequence[int] | None = None,
    limits: Limits = Limits(),
    progress: Progress = lambda what: None,
) -> MachineProfile:
    """The profile of this machine for one instruction set.

    cpus  the cores to use, all that this process may run on unless given
    """
    cpus = sorted(os.sched_getaffinity(0)) if cpus is None else cpus
    counts = thread_counts(len(cpus))
    with Prober(target, cpus, limits) as prober:
        progress("arithmetic")
        rates = {name: _scaled(counts, prober, name) for name in prober.kernels if name not in ("clock", "read")}
        clock_hz = prober.compute("clock", 1)
        progress("barrier")
        barrier = PerThreads(counts, tuple(prober.barrier_s(n) for n in counts))
        progress("caches and memory")
        levels, reads = _measure_memory(prober, counts, limits.memory_bytes)
    return MachineProfile(
        cpu=cpu_name(), isa=target.name, num_cores=len(cpus), clock_hz=clock_hz, read_bytes_per_s=reads, caches=levels,
        fp32=rates["fp32"], bf16=rates.get("bf16"), int8_dot=rates.get("int8_dot"),
        int8_chain=rates.get("int8_chain"), barrier_s=barrier, measured_on=measured_on,
    )  # fmt: skip


def _measure_memory(
    prober: Prober, counts: Sequence[int], wanted_bytes: int
) -> tuple[tuple[CacheLevel, ...], PerThreads]:
    """Every cache, then memory that none of them holds."""
    caches = read_caches()
    num_bytes = wanted_bytes or memory_bytes(max((cache.capacity_bytes for cache in caches), default=0))
    with mmap.mmap(-1, num_bytes) as memory:
        address = _touch(memory)
        levels = tuple(_cache_level(prober, address, num_bytes, cache, counts) for cache in caches)
        return levels, PerThreads(tuple(counts), tuple(prober.read(address, num_bytes, n) for n in counts))


def thread_counts(num_cores: int) -> tuple[int, ...]:
    """1, 2, 4, ... and all cores."""
    return tuple(sorted({num_cores, *(1 << power for power in range(num_cores.bit_length()))}))


def memory_bytes(cache_bytes: int) -> int:
    """Enough memory that no cache matters: eight times the largest, at most a quarter of what is free."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    wanted = max(MEMORY_BYTES_MIN, 8 * cache_bytes)
    if free // 4 < 2 * cache_bytes:
        raise Unsupported(
            f"{free} bytes of memory are free: too few to measure past a cache of {cache_bytes} bytes.",
            fix="Close other programs, or run `isochrone probe` on a machine with more memory.",
        )
    return min(wanted, free // 4) // mmap.PAGESIZE * mmap.PAGESIZE


def read_caches(root: Path = SYSFS) -> tuple[Cache, ...]:
    """The data caches of the first core, nearest first; none where the system does not tell."""
    siblings = root / "topology" / "thread_siblings_list"
    own = _cpu_list(siblings.read_text()) if siblings.exists() else {0}
    caches = []
    for index in root.glob("cache/index*"):
        kind, level, size, shared = (
            (index / name).read_text().strip() for name in ("type", "level", "size", "shared_cpu_list")
        )
        if kind == "Instruction":
            continue
        capacity = int(size.rstrip("KMG")) << {"K": 10, "M": 20, "G": 30}.get(size[-1], 0)
        caches.append(Cache(f"L{level}", capacity, is_shared=bool(_cpu_list(shared) - own)))
    return tuple(sorted(caches, key=lambda cache: cache.name))


def _cpu_list(text: str) -> set[int]:
    """The CPUs in a list such as `0-3,8`."""
    cpus: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        cpus.update(range(int(first), int(last or first) + 1))
    return cpus


def cpu_name(path: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name with family and model: several generations share a marketing name."""
    facts: dict[str, str] = {}
    for line in path.read_text(errors="replace").splitlines():
        key, _, value = line.partition(":")
        facts.setdefault(key.strip(), value.strip())
    name = facts.get("model name") or facts.get("CPU part") or "unknown processor"
    return f"{name} (family {facts.get('cpu family', '?')}, model {facts.get('model', '?')})"


def load_kernels(target: Target, kernels: dict[str, ProbeKernel]) -> ctypes.CDLL:
    """Compile, link and load; the file is needed only while the loader maps it."""
    text = print_module(
        [kernel.kernel for kernel in kernels.values()],
        triple=target.triple,
        features=target.features,
        cpu=target.cpu,
        extra=BARRIER_TEXT,
    )
    with tempfile.NamedTemporaryFile(prefix="isochrone-probe-", suffix=".so") as file:
        file.write(link_shared(emit_object(text, target)))
        file.flush()
        return ctypes.CDLL(file.name)


@dataclass(frozen=True, slots=True)
class _Table:
    """An argument table, together with what its addresses point to."""

    words: Bytes
    keeps: tuple[Bytes | int, ...]

    @property
    def address(self) -> int:
        return self.words.ctypes.data


def _table(data: Bytes | int, result: Bytes, size: int = 0) -> _Table:
    address = data if isinstance(data, int) else data.ctypes.data
    words = np.array([address, result.ctypes.data, size], np.uint64).view(np.uint8)
    return _Table(words, (data, result))


def _aligned(num_bytes: int) -> Bytes:
    """Zeros that begin at a cache line and share none with other data."""
    whole = np.zeros(num_bytes + 128, np.uint8)
    start = -whole.ctypes.data % 64
    return whole[start : start + num_bytes]


def _operands() -> Bytes:
    """Bytes that no unit finds special: as fp32 and bf16 they are ordinary numbers near one."""
    operands = _aligned(2048)
    operands.view(np.uint32)[:] = 0x3F7F3F7F
    return operands


def _result() -> Bytes:
    return _aligned(64 * NUM_ACCUMULATORS)


def _scaled(counts: Sequence[int], prober: Prober, name: str) -> PerThreads:
    return PerThreads(tuple(counts), tuple(prober.compute(name, n) for n in counts))


def _touch(memory: mmap.mmap) -> int:
    """Write to every page, since untouched ones are all the same page of zeros; the address of the first."""
    pages = np.frombuffer(memory, np.uint8)
    pages[:: mmap.PAGESIZE] = 1
    return pages.ctypes.data


def _cache_level(prober: Prober, address: int, num_bytes: int, cache: Cache, counts: Sequence[int]) -> CacheLevel:
    """Half of a cache is read, so that the other half forgives its replacement policy."""
    half = min(cache.capacity_bytes // 2, num_bytes // max(counts))
    values = tuple(prober.read(address, half if cache.is_shared else half * n, n) for n in counts)
    return CacheLevel(cache.name, cache.capacity_bytes, cache.is_shared, PerThreads(tuple(counts), values))
