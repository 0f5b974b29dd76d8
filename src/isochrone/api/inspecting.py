"""What the compiler makes of a model, stage by stage, as text and as data.

Reads headers only: no weight is touched, and nothing is compiled but at the stages that show code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from isochrone.compiler.isa import Target, choose_target
from isochrone.compiler.kernels import KernelSpec, decode
from isochrone.compiler.lower import lower_to_plan
from isochrone.compiler.plan import Plan, Region
from isochrone.config import Settings
from isochrone.graph.ir import Graph
from isochrone.graph.pipeline import lower
from isochrone.graph.printing import format_graph
from isochrone.graph.summary import format_summary, summarise
from isochrone.models import Stored, build, canonical_names, read_config
from isochrone.units import format_bytes, format_count
from isochrone.weights import Checkpoint, open_checkpoint
from isochrone.weights.form import choose_formats

from .reading import locate


@dataclass(frozen=True, slots=True)
class Shown:
    """A stage as people and as programs read it."""

    text: str
    record: dict[str, Any]


class Inspection:
    """One model, lowered as far as is asked."""

    def __init__(self, name: str, checkpoint: Checkpoint, settings: Settings) -> None:
        self.name, self.checkpoint, self.settings = name, checkpoint, settings

    @cached_property
    def graph(self) -> Graph:
        """The model's graph, with weights in the form asked for."""
        checkpoint = self.checkpoint
        config = read_config(checkpoint.kind, checkpoint.metadata, checkpoint.tensors)
        formats = choose_formats(checkpoint, self.settings.weights)
        names = canonical_names(checkpoint.kind, checkpoint.tensors)
        tensors = {name: Stored(checkpoint.tensors[own].shape, formats[own]) for name, own in names.items()}
        return build(config, tensors)

    @cached_property
    def lowered(self) -> Graph:
        return lower(self.graph)

    @cached_property
    def target(self) -> Target:
        return choose_target(self.settings.isa)

    @cached_property
    def plan(self) -> Plan:
        return lower_to_plan(self.lowered, self.target, kv=self.settings.kv_type)

    @cached_property
    def specs(self) -> list[KernelSpec]:
        """Every kernel of the plan once."""
        return [decode(spec) for spec in self.plan.kernels.values()]

    def summary(self) -> Shown:
        """What each pass changed, and what the plan came to."""
        table, plan = summarise(self.graph), self.plan
        facts = {
            "model": self.name, "target": plan.target, "regions": len(plan.regions), "kernels": len(plan.kernels),
            "layers": plan.layers, "barriers": sum(region.barrier for region in plan.regions),
            "packed_bytes": plan.weights_bytes, "file_bytes": self.checkpoint.num_bytes,
            "arena_bytes": plan.arena_bytes, "flops_per_token": table[-1].flops_per_token,
        }  # fmt: skip
        text = (
            f"{self.name}, licence {self.checkpoint.license or 'not stated'}, for {plan.target}\n\n"
            f"{format_summary(table)}\n\n"
            f"plan: {len(plan.regions)} regions with {facts['barriers']} barriers, {len(plan.kernels)} kernels; "
            f"{format_bytes(plan.weights_bytes)} of packed weights ({format_bytes(self.checkpoint.num_bytes)} in the "
            f"file), {format_bytes(plan.arena_bytes)} of arena"
        )
        return Shown(text, {**facts, "passes": list(table)})

    def show_graph(self) -> Shown:
        """The lowered graph, node by node."""
        text = format_graph(self.lowered)
        return Shown(text, {"nodes": text.splitlines()})

    def show_plan(self) -> Shown:
        """The table of regions, with what each costs at one token."""
        plan = self.plan
        lines = [_region_line(plan, index, region) for index, region in enumerate(plan.regions)]
        head = f"{'region':40} {'kernel for one token':30} {'for many':30} {'FLOP':>8} {'bytes':>8}"
        return Shown("\n".join([head, *lines]), {"regions": list(plan.regions), "weights": list(plan.weights)})

    def show_tile(self) -> Shown:
        """Every kernel in the tile language, with the ranges that were proved."""
        kernels = {spec.name: str(spec.build(self.target)) for spec in self.specs}
        return Shown("\n\n".join(kernels.values()), kernels)

    def show_llvm(self) -> Shown:
        """The text that LLVM gets: kernels and driver."""
        text = self._llvm()
        return Shown(text, {"llvm": text})

    def show_assembly(self) -> Shown:
        """The machine code.  Raises MissingExtra without llvmlite."""
        from isochrone.compiler.codegen import count_spills, emit_assembly

        text = emit_assembly(self._llvm(), self.target)
        return Shown(text, {"assembly": text, "spills": count_spills(text)})

    def _llvm(self) -> str:
        from isochrone.compiler.build import module_text

        return module_text(self.specs, self.target)


STAGES: dict[str, Callable[[Inspection], Shown]] = {
    "summary": Inspection.summary,
    "graph": Inspection.show_graph,
    "plan": Inspection.show_plan,
    "tile": Inspection.show_tile,
    "llvm": Inspection.show_llvm,
    "asm": Inspection.show_assembly,
}


def inspect(model: str, stage: str, settings: Settings) -> Shown:
    """One stage of a model that is here, or is pulled first.

    Raises NotFound, BadModel, BadConfig; Unsupported where no target fits.
    """
    path = locate(model, offline=settings.offline)
    return STAGES[stage](Inspection(model, open_checkpoint(path), settings))


def _region_line(plan: Plan, index: int, region: Region) -> str:
    flops, *moved = plan.costs.get(region.name, (0, 0, 0))
    mark = "|" if region.barrier else " "
    panel = "*" if index >= plan.panel_begin else " "
    return (
        f"{region.name:39}{panel} {region.one.kernel:30} {region.many.kernel:30} "
        f"{format_count(flops):>8} {format_bytes(sum(moved)):>8} {mark}"
    )
