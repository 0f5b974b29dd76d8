"""Measure the machine, keep the profile, and print and draw its roofline."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass

from isochrone.compiler.isa import choose_target
from isochrone.config import Settings
from isochrone.profile import MachineProfile, profile_path, save_profile
from isochrone.runtime.kernel_times import measure_kernels
from isochrone.runtime.load import load_runtime
from isochrone.runtime.probe import measure_machine
from isochrone.runtime.roofline import KernelPoint, draw_roofline, print_roofline
from isochrone.weights import store


@dataclass(frozen=True, slots=True)
class Probed:
    """A profile as measured now, with the kernels of a model on it when one was named."""

    profile: MachineProfile
    kernels: tuple[KernelPoint, ...]
    threads: int

    @property
    def text(self) -> str:
        """The ceilings and the kernels as a table."""
        return print_roofline(self.profile, self.kernels, threads=self.threads)

    @property
    def svg(self) -> str:
        """The picture."""
        return draw_roofline(self.profile, self.kernels, threads=self.threads)


def probe(
    settings: Settings, *, model: str | None = None, progress: Callable[[str], None] = lambda what: None
) -> Probed:
    """Measure this machine and keep the profile, which predictions are made from.

    model  whose kernels to time and put on the roofline; pulled when it is not here
    Raises Unsupported where no kernels can be generated, MissingExtra without llvmlite, and what loading raises.
    """
    target = choose_target(settings.isa)
    profile = measure_machine(target, measured_on=datetime.date.today().isoformat(), progress=progress)
    save_profile(profile, profile_path())
    threads = settings.threads or profile.num_cores
    return Probed(profile, () if model is None else _kernels_of(model, settings, threads, progress), threads)


def _kernels_of(
    model: str, settings: Settings, threads: int, progress: Callable[[str], None]
) -> tuple[KernelPoint, ...]:
    path = store.resolve(model, offline=settings.offline)
    progress(f"the kernels of {model}")
    runtime = load_runtime(
        path, weights=settings.weights, context=settings.context, kv_type=settings.kv_type, threads=threads,
        isa=settings.isa,
    )  # fmt: skip
    try:
        return measure_kernels(runtime)
    finally:
        runtime.close()
