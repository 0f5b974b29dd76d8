"""What this machine can do at most, as measured on it: plain data that predictions are made from.

The profile is one small JSON file, written by `isochrone probe` and read by everything that predicts.  It is
personal to a machine: a profile of another processor or another instruction set is refused, not adapted.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from isochrone.errors import BadConfig, NotFound
from isochrone.paths import state_dir

SCHEMA = 1
FILE_NAME = "machine.json"
PROBE = "Run `isochrone probe` to measure this machine."


@dataclass(frozen=True, slots=True)
class PerThreads:
    """A rate or a cost measured with several numbers of threads, fewest first.

    threads  1, 2, ... as measured;  values  one for each
    """

    threads: tuple[int, ...]
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.threads or len(self.threads) != len(self.values):
            raise ValueError("A measurement needs one value for each number of threads.")
        if list(self.threads) != sorted(set(self.threads)) or self.threads[0] < 1:
            raise ValueError(f"The numbers of threads {self.threads} must be positive and rise.")
        if any(not 0.0 <= value < float("inf") for value in self.values):
            raise ValueError(f"The values {self.values} must be finite and not negative.")

    def at(self, threads: int) -> float:
        """The value with this many threads: linear between two measurements, the nearest one outside."""
        if threads <= self.threads[0]:
            return self.values[0]
        for index in range(1, len(self.threads)):
            low, high = self.threads[index - 1], self.threads[index]
            if threads <= high:
                share = (threads - low) / (high - low)
                return self.values[index - 1] + share * (self.values[index] - self.values[index - 1])
        return self.values[-1]


@dataclass(frozen=True, slots=True)
class CacheLevel:
    """One level of cache: what it holds, and how fast it is read.

    capacity_bytes     of one instance;  is_shared  True when all cores share that instance
    read_bytes_per_s   of all threads together, each reading its own part
    """

    name: str
    capacity_bytes: int
    is_shared: bool
    read_bytes_per_s: PerThreads

    def holds(self, working_set_bytes: float, threads: int) -> bool:
        """Whether data of this size, split between the threads, stays in this level."""
        return working_set_bytes <= self.capacity_bytes * (1 if self.is_shared else threads)


@dataclass(frozen=True, slots=True)
class MachineProfile:
    """The measured ceilings of one machine.

    isa                 instruction set the kernels were generated for
    clock_hz            from a chain of dependent adds, since counters may be hidden
    read_bytes_per_s    sequential read of memory that no cache holds
    caches              nearest first
    fp32, bf16          FLOP/s of fused multiply-adds;  bf16 None where the processor has none
    int8_dot            op/s of vpdpbusd, None where the processor has none
    int8_chain          op/s of chained maddubs: 8 vpmaddubsw, 7 vpaddw, 1 vpmaddwd, 1 vpaddd; None off x86
    barrier_s           seconds that one crossing takes, all threads on cores of their own
    measured_on         ISO date
    """

    cpu: str
    isa: str
    num_cores: int
    clock_hz: float
    read_bytes_per_s: PerThreads
    caches: tuple[CacheLevel, ...]
    fp32: PerThreads
    bf16: PerThreads | None
    int8_dot: PerThreads | None
    int8_chain: PerThreads | None
    barrier_s: PerThreads
    measured_on: str

    @property
    def int8(self) -> PerThreads:
        """The int8 ceiling of the instruction set in use; fp32's where integers have no faster road."""
        has_dot = self.int8_dot is not None and self.isa.startswith(("vnni", "avx512", "avxvnni"))
        return (self.int8_dot if has_dot else self.int8_chain) or self.fp32

    def bandwidth(self, working_set_bytes: float, threads: int) -> float:
        """Bytes per second when data of this size is read again and again."""
        for level in self.caches:
            if level.holds(working_set_bytes, threads):
                return level.read_bytes_per_s.at(threads)
        return self.read_bytes_per_s.at(threads)


def profile_path() -> Path:
    """Where this user's profile of this machine lives."""
    return state_dir() / FILE_NAME


def save_profile(profile: MachineProfile, path: Path) -> None:
    """Write the profile aside and rename it, so that a reader sees the old one or the new one."""
    import tempfile  # only who probes pays for it: readers are on the way to a first token

    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"schema": SCHEMA, **asdict(profile)}, indent=2)
    handle, aside = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text + "\n")
        os.replace(aside, path)
    except OSError:
        Path(aside).unlink(missing_ok=True)
        raise


def load_profile(path: Path) -> MachineProfile:
    """Read a profile.

    Raises NotFound when there is none, BadConfig when the file is not a profile of this version.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise NotFound(f"There is no machine profile at {path}.", fix=PROBE) from error
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfig(f"The machine profile {path} cannot be read: {error}.", fix=PROBE) from error
    try:
        return parse_profile(json.loads(text))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise BadConfig(f"The machine profile {path} is not one of this version: {error}.", fix=PROBE) from error


def check_machine(profile: MachineProfile, *, cpu: str, isa: str) -> MachineProfile:
    """Refuse a profile that was measured on another processor or for another instruction set."""
    for what, ours, its in (("processor", cpu, profile.cpu), ("instruction set", isa, profile.isa)):
        if ours != its:
            raise BadConfig(f"The machine profile is of the {what} {its!r}, and this is {ours!r}.", fix=PROBE)
    return profile


def parse_profile(record: Mapping[str, object]) -> MachineProfile:
    """A profile from its JSON object; raises ValueError, TypeError or KeyError with what is wrong."""
    values = dict(record)
    if values.pop("schema", None) != SCHEMA:
        raise ValueError(f"its schema is {record.get('schema')!r}, expected {SCHEMA}")
    if unknown := sorted(values.keys() - {field.name for field in fields(MachineProfile)}):
        raise ValueError(f"unknown keys {', '.join(unknown)}")
    return MachineProfile(
        cpu=_text(values["cpu"]),
        isa=_text(values["isa"]),
        num_cores=int(_number(values["num_cores"])),
        clock_hz=_number(values["clock_hz"]),
        read_bytes_per_s=_per_threads(values["read_bytes_per_s"]),
        caches=tuple(_cache_level(level) for level in _list(values["caches"])),
        fp32=_per_threads(values["fp32"]),
        bf16=_optional(values["bf16"]),
        int8_dot=_optional(values["int8_dot"]),
        int8_chain=_optional(values["int8_chain"]),
        barrier_s=_per_threads(values["barrier_s"]),
        measured_on=_text(values["measured_on"]),
    )


def _cache_level(value: object) -> CacheLevel:
    level = _object(value)
    return CacheLevel(
        name=_text(level["name"]),
        capacity_bytes=int(_number(level["capacity_bytes"])),
        is_shared=level["is_shared"] is True,
        read_bytes_per_s=_per_threads(level["read_bytes_per_s"]),
    )


def _optional(value: object) -> PerThreads | None:
    return None if value is None else _per_threads(value)


def _per_threads(value: object) -> PerThreads:
    measured = _object(value)
    threads = tuple(int(_number(n)) for n in _list(measured["threads"]))
    return PerThreads(threads, tuple(_number(x) for x in _list(measured["values"])))


def _object(value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise TypeError(f"{value!r:.40} is not an object")
    return value


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r:.40} is not a list")
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{value!r:.40} is not a number")
    if not abs(value) < 1e300:
        raise ValueError(f"{value} is not finite")
    return float(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is not a text")
    return value
