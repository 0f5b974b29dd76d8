"""Each kernel family beside the limit measured in the same run, and beside a C++ twin.

    setsid -w python -m benchmarks.kernels [--isa NAME ...] [--family NAME] [--threads N] [--json FILE]

The twins (twins/*.cpp) read the same packed bytes with the same instructions in the same order, built by g++ -O3 and,
where the ziglang package is installed, by clang; a twin must give the same bits before it is timed.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np

from isochrone.compiler.isa import TARGETS, Target, available_targets, choose_target
from isochrone.compiler.kernels import KernelSpec
from isochrone.runtime.probe import Limits, Prober, cpu_name

from .build import Built, Function, build_kernel, build_twins, find_twin
from .cases import Case, Data, cases
from .measure import Crew, Timing, Work, take_turns

_PAGE = 4096


@dataclass(frozen=True, slots=True)
class Line:
    """One measured case.

    rate, limit   per second, in bytes or operations; medians
    twins         rate of each twin, best and median beside ours
    """

    isa: str
    family: str
    label: str
    unit: str
    rate: float
    rate_best: float
    limit: float | None
    twins: dict[str, float]
    num_spills: int
    cold_s: float
    warm_s: float
    code_bytes: int

    @property
    def share(self) -> float | None:
        """Of the machine's limit."""
        return self.rate / self.limit if self.limit else None


class TwinDiffers(Exception):
    """A twin that computes something else: its time says nothing."""


class Session:
    """One instruction set on some cores: its prober, its twins, its crew."""

    def __init__(self, target: Target, cpus: Sequence[int], folder: Path, num_rounds: int, *, twins: bool) -> None:
        self.target, self.folder, self.num_rounds = target, folder, num_rounds
        self._built: dict[KernelSpec, Built] = {}
        self.prober, self.crew = Prober(target, cpus, Limits()), Crew(cpus)
        self.twins = build_twins(target, folder) if twins else {}

    def measure(self, case: Case) -> Line:
        if case.spec not in self._built:
            self._built[case.spec] = build_kernel(case.spec, self.target, self.folder)
        built, data = self._built[case.spec], case.make()
        functions = {"ours": built.function, **self._twins_of(case, built, data)}
        work = Work(data.ctx.ctypes.data, data.args.ctypes.data, data.num_items)
        times = take_turns(self.crew, functions, work, self.num_rounds)
        return self._line(case, built, times)

    def _twins_of(self, case: Case, built: Built, data: Data) -> dict[str, Function]:
        found = {name: find_twin(libraries, case.spec) for name, libraries in self.twins.items()}
        twins = {name: twin for name, twin in found.items() if twin is not None}
        expected = _result(built.function, data)
        for name, twin in twins.items():
            if not np.array_equal(_result(twin, data), expected):
                raise TwinDiffers(f"The {name} twin of {case.spec.name} on {self.target.name} gives other bits.")
        return twins

    def _line(self, case: Case, built: Built, times: dict[str, Timing]) -> Line:
        rates = {name: case.amount / timing.median_s for name, timing in times.items()}
        return Line(
            isa=self.target.name, family=case.family, label=case.label,
            unit="GB/s" if case.limit == "read" else "GOP/s",
            rate=rates.pop("ours"), rate_best=case.amount / times["ours"].best_s, limit=self._limit(case), twins=rates,
            num_spills=built.num_spills, cold_s=built.cold_s, warm_s=built.warm_s, code_bytes=built.num_bytes,
        )  # fmt: skip

    def _limit(self, case: Case) -> float | None:
        threads = len(self.crew.cpus)
        if case.limit == "read":
            memory = np.ones(int(case.amount) + _PAGE, np.uint8)  # untouched pages are all the same page of zeros
            return self.prober.read(int(memory.ctypes.data) // _PAGE * _PAGE + _PAGE, int(case.amount), threads)
        if case.limit == "float":
            name = "bf16" if self.target.bf16_dot else "fp32"
        else:
            name = {"vnni": "int8_dot", "maddubs": "int8_chain"}.get(self.target.dot, "")
        return self.prober.compute(name, threads) if name else None

    def close(self) -> None:
        self.prober.__exit__()
        self.crew.close()


def _result(function: Function, data: Data) -> np.ndarray:
    out = data.arrays["out"]
    out.view(np.uint8)[:] = 0
    function(data.ctx.ctypes.data, data.args.ctypes.data, 0, data.num_items, 0)
    return out.view(np.uint8).copy()


def show(line: Line) -> str:
    """The line as people read it."""
    share = f"{line.share:5.0%} of {line.limit / 1e9:.0f}" if line.share and line.limit else "    no limit"
    twins = "  ".join(f"{line.rate / rate:.2f}x {name}" for name, rate in line.twins.items()) or "no twin"
    made = f"{line.cold_s * 1e3:4.0f} ms cold  {line.warm_s * 1e3:.2f} ms warm  {line.num_spills} spills"
    what = f"{line.isa:9}  {line.family:9} {line.label:28}"
    return f"{what} {line.rate / 1e9:7.1f} {line.unit:5}  {share:16} {twins:26} {made}"


@click.command(help=__doc__)
@click.option(
    "--isa", "names", multiple=True, type=click.Choice(list(TARGETS)), help="Instruction sets; all by default."
)
@click.option("--family", help="Only cases of this family.")
@click.option("--threads", default=1, show_default=True, type=click.IntRange(min=1))
@click.option("--rounds", "num_rounds", default=7, show_default=True, type=click.IntRange(min=1))
@click.option("--twins/--no-twins", default=True, help="Whether to build and time the C++ twins.")
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures here too."
)
def main(
    names: tuple[str, ...], family: str | None, threads: int, num_rounds: int, twins: bool, json_file: Path | None
) -> None:
    cpus = sorted(os.sched_getaffinity(0))[:threads]
    if len(cpus) < threads:
        raise click.UsageError(f"{threads} threads need as many cores, and {len(cpus)} are ours.")
    targets = [choose_target(name) for name in names] or list(available_targets())
    lines = []
    click.echo(f"{cpu_name()}, {threads} thread(s); medians of {num_rounds} rounds", err=True)
    with tempfile.TemporaryDirectory(prefix="isochrone-kernels-") as folder:
        for target in targets:
            session = Session(target, cpus, Path(folder), num_rounds, twins=twins)
            for case in cases(target):
                if family in (None, case.family):
                    lines.append(session.measure(case))
                    click.echo(show(lines[-1]))
            session.close()
    if json_file:
        report = {"cpu": cpu_name(), "threads": threads, "lines": [asdict(line) for line in lines]}
        json_file.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
