"""The roofline of a machine with kernels on it, as a picture (SVG, readable on light and dark pages) and as text.

Across: operations per byte read.  Up: operations per second.  Slopes are memories, level lines are units; a kernel
cannot be above either (Williams, Waterman & Patterson 2009).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

from isochrone.profile import MachineProfile

Unit = Literal["int8", "bf16", "fp32"]

WIDTH, HEIGHT = 1120, 600
LEFT, TOP, RIGHT, BOTTOM = 70, 56, 400, 56
INTENSITY_MIN, INTENSITY_MAX = 0.25, 2048.0
STYLE = """
  svg { color: #1f2328; background: #ffffff; font: 12px system-ui, sans-serif; --page: #ffffff }
  .grid { stroke: #d8dee4 } .axis { stroke: #57606a } .memory { stroke: #0969da } .unit { stroke: #bc4c00 }
  .memory-text { fill: #0969da } .unit-text { fill: #bc4c00 } .kernel { fill: #1a7f37; stroke: #ffffff }
  text { fill: currentColor } .quiet { fill: #57606a } .title { font-size: 16px; font-weight: 600 }
  .label { paint-order: stroke; stroke: #ffffff; stroke-width: 4px; stroke-linejoin: round }
  .number { fill: #ffffff; font-size: 10px; font-weight: 600 } line, polyline { fill: none; stroke-width: 1.5 }
  @media (prefers-color-scheme: dark) {
    svg { color: #e6edf3; background: #0d1117 } .grid { stroke: #21262d } .axis { stroke: #8b949e }
    .memory { stroke: #58a6ff } .memory-text { fill: #58a6ff } .unit { stroke: #f0883e } .unit-text { fill: #f0883e }
    .kernel { fill: #3fb950; stroke: #0d1117 } .quiet { fill: #8b949e } .number { fill: #0d1117 }
    .label { stroke: #0d1117 }
  }
"""


@dataclass(frozen=True, slots=True)
class KernelPoint:
    """One measured kernel.

    num_operations  multiplies and adds of one run;  read_bytes  what it must read once
    unit            the kind of arithmetic that limits it
    """

    name: str
    num_operations: float
    read_bytes: float
    seconds: float
    unit: Unit

    @property
    def intensity(self) -> float:
        """Operations per byte."""
        return self.num_operations / self.read_bytes

    @property
    def operations_per_s(self) -> float:
        """What was reached."""
        return self.num_operations / self.seconds

    @property
    def bytes_per_s(self) -> float:
        """Bytes read in a second."""
        return self.read_bytes / self.seconds


def peak(profile: MachineProfile, unit: Unit, threads: int) -> float:
    """The ceiling of a unit; where a unit is missing, the one that does its work instead."""
    rates = {"int8": profile.int8, "bf16": profile.bf16 or profile.fp32, "fp32": profile.fp32}
    return rates[unit].at(threads)


def share_of_limit(point: KernelPoint, profile: MachineProfile, threads: int) -> float:
    """Reached operations over what memory and unit allow at this intensity, 0 to 1 (above: a cache helped)."""
    memory = profile.read_bytes_per_s.at(threads) * point.intensity
    return point.operations_per_s / min(memory, peak(profile, point.unit, threads))


def print_roofline(profile: MachineProfile, points: Sequence[KernelPoint], *, threads: int) -> str:
    """The ceilings and the kernels as a table; rates per second, and per clock of one core."""
    clock = profile.clock_hz * threads
    lines = [
        f"{profile.cpu}, {profile.isa}, {threads} of {profile.num_cores} cores at "
        f"{profile.clock_hz / 1e9:.2f} GHz, measured {profile.measured_on}",
        "",
        f"{'ceiling':24}{'G/s':>10}{'per clock':>12}",
    ]
    for name, rate in (*_memories(profile, threads), *_units(profile, threads)):
        lines.append(f"{name:24}{rate / 1e9:10.1f}{rate / clock:12.1f}")
    lines.append(f"{'barrier':24}{profile.barrier_s.at(threads) * 1e9:10.0f} ns")
    if points:
        columns = f"{'op/byte':>9}{'GOP/s':>9}{'op/clock':>10}{'GB/s':>8}{'B/clock':>9}{'of limit':>10}"
        lines += ["", f"{'kernel':36}{columns}"]
    for point in points:
        lines.append(
            f"{point.name:36}{point.intensity:9.1f}{point.operations_per_s / 1e9:9.1f}"
            f"{point.operations_per_s / clock:10.1f}{point.bytes_per_s / 1e9:8.1f}{point.bytes_per_s / clock:9.2f}"
            f"{share_of_limit(point, profile, threads):10.0%}"
        )
    return "\n".join(lines)


def draw_roofline(profile: MachineProfile, points: Sequence[KernelPoint], *, threads: int) -> str:
    """The picture.  Kernels are numbered; the list beside the plot names them and their share of the limit."""
    axes = _Axes.around(profile, points, threads)
    title = f"Roofline of {profile.cpu}, {threads} threads, {profile.isa}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>{escape(title)}</title><style>{STYLE}</style>",
        f'<text class="title" x="{LEFT}" y="28">{escape(title)}</text>',
        f'<text class="quiet" x="{LEFT}" y="45">measured {escape(profile.measured_on)}; '
        "slopes are memories, level lines are arithmetic units</text>",
        *_grid(axes),
        *_ceilings(axes, profile, threads),
        *_kernels(axes, profile, points, threads),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


@dataclass(frozen=True, slots=True)
class _Axes:
    """From figures to pixels, both axes logarithmic."""

    low: float
    high: float

    @classmethod
    def around(cls, profile: MachineProfile, points: Sequence[KernelPoint], threads: int) -> _Axes:
        """Room for every ceiling and every kernel."""
        top = max(rate for _, rate in _units(profile, threads))
        bottom = min(
            [profile.read_bytes_per_s.at(threads) * INTENSITY_MIN, *(p.operations_per_s for p in points)]
        )
        return cls(bottom / 2.0, 2.0 * top)

    def x(self, intensity: float) -> float:
        share = math.log(intensity / INTENSITY_MIN) / math.log(INTENSITY_MAX / INTENSITY_MIN)
        return LEFT + min(max(share, 0.0), 1.0) * (WIDTH - LEFT - RIGHT)

    def y(self, rate: float) -> float:
        return HEIGHT - BOTTOM - math.log(rate / self.low) / math.log(self.high / self.low) * (HEIGHT - TOP - BOTTOM)


def _memories(profile: MachineProfile, threads: int) -> list[tuple[str, float]]:
    """Memories, farthest first."""
    levels = [(f"{level.name} read", level.read_bytes_per_s.at(threads)) for level in reversed(profile.caches)]
    return [("DRAM read", profile.read_bytes_per_s.at(threads)), *levels]


def _units(profile: MachineProfile, threads: int) -> list[tuple[str, float]]:
    """Arithmetic ceilings, those the machine has."""
    units = (
        ("fp32 FMA", profile.fp32),
        ("bf16 dot", profile.bf16),
        ("int8 chained maddubs", profile.int8_chain),
        ("int8 vpdpbusd", profile.int8_dot),
    )
    return [(name, rate.at(threads)) for name, rate in units if rate is not None]


def _grid(axes: _Axes) -> list[str]:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = []
    for power in range(-2, 12, 2):
        x = axes.x(2.0**power)
        parts.append(f'<line class="grid" x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{bottom}"/>')
        parts.append(f'<text class="quiet" x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{2.0**power:g}</text>')
    for power in range(math.ceil(math.log10(axes.low)), math.ceil(math.log10(axes.high))):
        y = axes.y(10.0**power)
        parts.append(f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>')
        label = f"{10.0 ** (power - 9):g}"
        parts.append(f'<text class="quiet" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    parts.append(f'<polyline class="axis" points="{LEFT},{TOP} {LEFT},{bottom} {right},{bottom}"/>')
    across, up = (LEFT + right) / 2, (TOP + bottom) / 2
    parts.append(f'<text x="{across}" y="{HEIGHT - 16}" text-anchor="middle">operations per byte read</text>')
    parts.append(f'<text x="22" y="{up}" text-anchor="middle" transform="rotate(-90 22 {up})">GOP/s</text>')
    return parts


def _ceilings(axes: _Axes, profile: MachineProfile, threads: int) -> list[str]:
    """All lines first, then their labels, so that no line crosses a label."""
    slopes = [_slope(axes, rate, number, profile, threads) for number, (_, rate) in _shown(profile, threads)]
    labels = [
        _slope_label(axes, f"{name} {rate / 1e9:.0f} GB/s", rate, number, profile, threads)
        for number, (name, rate) in _shown(profile, threads)
    ]
    levels, fastest = [], max(rate for _, rate in _memories(profile, threads))
    above = -math.inf
    for name, rate in sorted(_units(profile, threads), key=lambda unit: -unit[1]):
        start, y, right = axes.x(max(INTENSITY_MIN, rate / fastest)), axes.y(rate), WIDTH - RIGHT
        levels.append(f'<line class="unit" x1="{start:.1f}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>')
        is_crowded = y - above < 16
        labels.append(
            f'<text class="label unit-text" x="{right - 4}" y="{y + (12 if is_crowded else -4):.1f}" '
            f'text-anchor="end">{escape(name)} {rate / 1e9:.0f}</text>'
        )
        above = y
    return [*slopes, *levels, *labels]


def _shown(profile: MachineProfile, threads: int) -> list[tuple[int, tuple[str, float]]]:
    """Memories that some unit can outrun at the intensities shown, numbered."""
    top = max(rate for _, rate in _units(profile, threads))
    return [(n, memory) for n, memory in enumerate(_memories(profile, threads)) if top / memory[1] > INTENSITY_MIN]


def _ends(axes: _Axes, rate: float, profile: MachineProfile, threads: int) -> tuple[float, float, float, float]:
    """A memory's slope in pixels, from the left or the bottom up to the fastest unit."""
    top = max(unit for _, unit in _units(profile, threads))
    start, end = max(INTENSITY_MIN, axes.low / rate), min(INTENSITY_MAX, top / rate)
    return axes.x(start), axes.y(start * rate), axes.x(end), axes.y(end * rate)


def _slope(axes: _Axes, rate: float, number: int, profile: MachineProfile, threads: int) -> str:
    x1, y1, x2, y2 = _ends(axes, rate, profile, threads)
    dashes = "" if number == 0 else ' stroke-dasharray="5 4"'
    return f'<line class="memory"{dashes} x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _slope_label(axes: _Axes, text: str, rate: float, number: int, profile: MachineProfile, threads: int) -> str:
    """Along the line; neighbouring memories can be close, so every second label sits further up."""
    x1, y1, x2, y2 = _ends(axes, rate, profile, threads)
    along = 0.1 if number % 2 == 0 else 0.55
    x, y = x1 + along * (x2 - x1), y1 + along * (y2 - y1) - 5
    angle = math.degrees(math.atan2(y2 - y1, x2 - x1))
    place = f'x="{x:.1f}" y="{y:.1f}" transform="rotate({angle:.1f} {x:.1f} {y:.1f})"'
    return f'<text class="label memory-text" {place}>{escape(text)}</text>'


def _kernels(axes: _Axes, profile: MachineProfile, points: Sequence[KernelPoint], threads: int) -> list[str]:
    left, parts = WIDTH - RIGHT + 30, []
    if points:
        header = '<text class="quiet" x="{x}" y="{y}" text-anchor="end">{text}</text>'
        parts.append(f'<text class="quiet" x="{left - 8}" y="{TOP + 4}">kernel</text>')
        parts.append(header.format(x=WIDTH - 84, y=TOP + 4, text="GOP/s"))
        parts.append(header.format(x=WIDTH - 16, y=TOP + 4, text="of limit"))
    spacing = min(22.0, (HEIGHT - TOP - 30) / max(1, len(points)))
    for number, point in enumerate(points, start=1):
        x, y = axes.x(point.intensity), axes.y(point.operations_per_s)
        row = TOP + 8 + spacing * number
        for cx, cy in ((x, y), (left, row - 4)):
            parts.append(f'<circle class="kernel" cx="{cx:.1f}" cy="{cy:.1f}" r="8"/>')
            parts.append(f'<text class="number" x="{cx:.1f}" y="{cy + 3.5:.1f}" text-anchor="middle">{number}</text>')
        parts.append(f'<text x="{left + 16}" y="{row:.1f}">{escape(point.name)}</text>')
        parts.append(
            f'<text x="{WIDTH - 84}" y="{row:.1f}" text-anchor="end">{point.operations_per_s / 1e9:.1f}</text>'
        )
        share = share_of_limit(point, profile, threads)
        parts.append(f'<text x="{WIDTH - 16}" y="{row:.1f}" text-anchor="end">{share:.0%}</text>')
    return parts
