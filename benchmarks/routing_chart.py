"""The goodput of every policy in every cell as one picture: SVG, readable on light and dark pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

Row = tuple[str, str, str, Mapping[str, float]]
"""(trace, fleet, scenario, goodput of each policy)"""

WIDTH, LEFT, RIGHT, TOP, ROW = 1060, 330, 90, 76, 17
LOWEST = 0.3
STYLE = """
  svg { color: #1f2328; background: #ffffff; font: 12px system-ui, sans-serif }
  .grid { stroke: #d8dee4 } text { fill: currentColor } .quiet { fill: #57606a }
  .title { font-size: 16px; font-weight: 600 } .other { fill: #8c959f } .ours { fill: #1a7f37 }
  .oracle { stroke: #0969da; stroke-width: 2.5 }
  @media (prefers-color-scheme: dark) {
    svg { color: #e6edf3; background: #0d1117 } .grid { stroke: #21262d } .quiet { fill: #8b949e }
    .other { fill: #6e7681 } .ours { fill: #3fb950 } .oracle { stroke: #58a6ff }
  }
"""


def chart(rows: Sequence[Row]) -> str:
    """Across: share of requests inside their budget.  One line a cell: grey the others, green ours, blue the oracle."""
    height = TOP + ROW * len(rows) + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="Goodput of each policy in each cell"><style>{STYLE}</style>',
        '<text class="title" x="16" y="28">Requests answered inside their whole budget</text>',
        f'<circle class="ours" cx="{LEFT}" cy="44" r="5"/><text x="{LEFT + 10}" y="48">isochrone</text>',
        f'<circle class="other" cx="{LEFT + 100}" cy="44" r="4"/><text x="{LEFT + 110}" y="48">six baselines</text>',
        f'<line class="oracle" x1="{LEFT + 220}" x2="{LEFT + 220}" y1="37" y2="51"/>'
        f'<text x="{LEFT + 230}" y="48">clairvoyant oracle</text>',
    ]
    for percent in range(int(100 * LOWEST), 101, 10):
        x = _x(percent / 100)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 8}" y2="{height - 26}"/>')
        parts.append(f'<text class="quiet" x="{x:.1f}" y="{height - 10}" text-anchor="middle">{percent} %</text>')
    for index, row in enumerate(rows):
        parts += _line(row, TOP + ROW * index)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _line(row: Row, y: float) -> list[str]:
    trace, fleet, scenario, goodputs = row
    label = escape(f"{trace}, {fleet}, {scenario}")
    parts = [f'<text x="{LEFT - 12}" y="{y + 4}" text-anchor="end">{label}</text>']
    for name, goodput in goodputs.items():
        x, title = _x(goodput), f"<title>{escape(name)} {goodput:.1%}</title>"
        if name == "oracle":
            parts.append(f'<line class="oracle" x1="{x:.1f}" x2="{x:.1f}" y1="{y - 6}" y2="{y + 6}">{title}</line>')
        elif name != "isochrone":
            parts.append(f'<circle class="other" cx="{x:.1f}" cy="{y}" r="3.5">{title}</circle>')
    ours = goodputs["isochrone"]
    title = f"<title>isochrone {ours:.1%}</title>"
    parts.append(f'<circle class="ours" cx="{_x(ours):.1f}" cy="{y}" r="5">{title}</circle>')
    parts.append(f'<text class="quiet" x="{WIDTH - RIGHT + 16}" y="{y + 4}">{ours:.1%}</text>')
    return parts


def _x(share: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (max(share, LOWEST) - LOWEST) / (1.0 - LOWEST)
