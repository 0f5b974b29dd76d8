"""Compile a model's kernels ahead of time, for this machine or for a pack that travels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from isochrone.compiler.cache import library_for
from isochrone.compiler.isa import TARGETS, choose_target
from isochrone.compiler.lower import lower_to_plan
from isochrone.config import Settings
from isochrone.errors import BadConfig
from isochrone.units import format_bytes
from isochrone.weights import open_checkpoint

from .inspecting import Inspection
from .packs import kernels_dir, write_pack
from .reading import locate


@dataclass(frozen=True, slots=True)
class Compiled:
    """What was made.  pack  the file it was exported to"""

    model: str
    target: str
    num_kernels: int
    library: Path
    library_bytes: int
    pack: Path | None

    @property
    def summary(self) -> str:
        """One line for people."""
        where = f"exported to {self.pack}" if self.pack else "in the cache"
        size = format_bytes(self.library_bytes)
        return f"{self.num_kernels} kernels of {self.model} for {self.target}, {size}, {where}."


def compile_kernels(
    model: str, settings: Settings, *, pack: Path | None, progress: Callable[[str], None] = lambda what: None
) -> Compiled:
    """Compile, unless the cache has it, and export.  Another target than this machine's may be named.

    Raises NotFound, BadModel, BadConfig, MissingExtra without llvmlite.
    """
    if settings.isa is not None and settings.isa not in TARGETS:
        raise BadConfig(f"There is no instruction set {settings.isa!r}.", fix=f"Use one of: {', '.join(TARGETS)}.")
    target = TARGETS[settings.isa] if settings.isa is not None else choose_target()
    path = locate(model, offline=settings.offline)
    plan = lower_to_plan(Inspection(model, open_checkpoint(path), settings).lowered, target, kv=settings.kv_type)
    progress(f"compiling {len(plan.kernels)} kernels for {target.name}")
    library = library_for(plan.kernels, target, kernels_dir())
    if pack is not None:
        write_pack(pack, model, plan, target, library)
    return Compiled(model, target.name, len(plan.kernels), library, library.stat().st_size, pack)
