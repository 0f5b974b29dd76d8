"""The machine that the tests of this room predict for: round numbers near those of a two-core server."""

from isochrone.profile import CacheLevel, MachineProfile, PerThreads


def two(one: float, both: float) -> PerThreads:
    """A value measured with one and with two threads."""
    return PerThreads((1, 2), (one, both))


PROFILE = MachineProfile(
    cpu="Test CPU",
    isa="vnni-bf16",
    num_cores=2,
    clock_hz=3.6e9,
    read_bytes_per_s=two(30e9, 32e9),
    caches=(
        CacheLevel("L1", 32 << 10, False, two(203e9, 422e9)),
        CacheLevel("L2", 1 << 20, False, two(105e9, 212e9)),
        CacheLevel("L3", 32 << 20, True, two(78e9, 161e9)),
    ),
    fp32=two(117e9, 233e9),
    bf16=two(233e9, 467e9),
    int8_dot=two(462e9, 918e9),
    int8_chain=two(280e9, 512e9),
    barrier_s=two(0.0, 2e-7),
    measured_on="2026-11-24",
)
