"""Measure the machine, keep the profile, and print and draw its roofline."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass

from isochrone.compiler.isa import choose_target
from isochrone.config import Settings
from isochrone.profile import MachineProfile, profile_path, save_profile
from isochrone.runtime.probe import measure_machine
from isochrone.runtime.roofline import KernelPoint, draw_roofline, print_roofline


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


def probe(settings: Settings, *, progress: Callable[[str], None] = lambda what: None) -> Probed:
    """Measure this machine and keep the profile, which predictions are made from.

    Raises Unsupported where no kernels can be generated, MissingExtra without llvmlite.
    """
    target = choose_target(settings.isa)
    profile = measure_machine(target, measured_on=datetime.date.today().isoformat(), progress=progress)
    save_profile(profile, profile_path())
    return Probed(profile, (), settings.threads or profile.num_cores)
