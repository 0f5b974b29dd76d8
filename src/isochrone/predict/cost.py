"""What a step of a model asks of the machine, and how long that takes at the machine's measured ceilings.

A region takes as long as the slowest of what it needs (the roofline: Williams, Waterman & Patterson 2009),
plus its barriers.  Regions follow one another, so a step takes their sum.
"""

from __future__ import annotations

from dataclasses import dataclass

from isochrone.profile import MachineProfile


@dataclass(frozen=True, slots=True)
class RegionCost:
    """One region of a step, all `count` repetitions of it alike.

    read_bytes      weights and KV cache read once by one repetition
    int8_ops        multiplies and adds of int8 products
    fp32_flops      floating-point operations in fp32;  bf16_flops  in bf16 dots
    num_barriers    crossings at its end
    count           repetitions in the step: layers, usually
    """

    name: str
    read_bytes: float = 0.0
    int8_ops: float = 0.0
    fp32_flops: float = 0.0
    bf16_flops: float = 0.0
    num_barriers: int = 1
    count: int = 1


@dataclass(frozen=True, slots=True)
class StepCost:
    """The regions of one step, in order."""

    regions: tuple[RegionCost, ...]

    @property
    def read_bytes(self) -> float:
        """Bytes that one step reads: the working set of a decode loop."""
        return sum(region.read_bytes * region.count for region in self.regions)

    @property
    def int8_ops(self) -> float:
        """Operations on int8 products in one step."""
        return sum(region.int8_ops * region.count for region in self.regions)

    @property
    def flops(self) -> float:
        """Floating-point operations of one step, fp32 and bf16 together."""
        return sum((region.fp32_flops + region.bf16_flops) * region.count for region in self.regions)

    @property
    def num_barriers(self) -> int:
        """Barriers that one step crosses."""
        return sum(region.num_barriers * region.count for region in self.regions)


@dataclass(frozen=True, slots=True)
class Efficiency:
    """Shares of the ceilings that whole steps reach; the online correction learns what is left.

    The defaults are what `isochrone probe smollm2-135m` shows on a two-core Zen 4 guest (2026-11-24): streaming
    weights comes close to a plain read, a matmul panel unpacks and scales beside its dots, and attention waits for
    its exponentials.
    """

    read: float = 0.85
    int8: float = 0.67
    fp32: float = 0.50
    bf16: float = 0.47


DEFAULT_EFFICIENCY = Efficiency()


def step_s(
    cost: StepCost, profile: MachineProfile, *, threads: int, efficiency: Efficiency = DEFAULT_EFFICIENCY
) -> float:
    """Seconds that one step takes: the sum over its regions."""
    bandwidth = profile.bandwidth(cost.read_bytes, threads)
    return sum(region_s(region, bandwidth, profile, threads, efficiency) for region in cost.regions)


def region_s(
    region: RegionCost, bandwidth: float, profile: MachineProfile, threads: int, efficiency: Efficiency
) -> float:
    """Seconds that all repetitions of one region take, reading at `bandwidth` bytes per second at most."""
    bf16 = profile.bf16 or profile.fp32
    bf16_share = efficiency.bf16 if profile.bf16 else efficiency.fp32
    once_s = max(
        region.read_bytes / (bandwidth * efficiency.read),
        region.int8_ops / (profile.int8.at(threads) * efficiency.int8),
        region.fp32_flops / (profile.fp32.at(threads) * efficiency.fp32)
        + region.bf16_flops / (bf16.at(threads) * bf16_share),
    )
    return region.count * (once_s + region.num_barriers * profile.barrier_s.at(threads))
