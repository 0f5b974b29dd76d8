"""Round trips that nobody has measured: from a table of such between regions, else by one line over distance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache

from isochrone.routing.records import Quantiles

from .regions import Point, cities, data_lines

EARTH_KM = 6371.0
LINE_S, LINE_S_PER_KM = 8.84e-3, 1.606e-5
"""The line, fitted by least squares of relative error to all pairs of the table (a test fits it again): light in fibre
alone would take a centisecond for 1,000 km, the rest are detours and equipment."""
ERROR_P50, ERROR_P90, ERROR_P99 = 1.02, 1.42, 1.96
"""What the table says, divided by what the line says, at its quantiles: half of the pairs lie within 13 % of the line,
nine in ten within 32 %."""
P95_OVER_P50, P99_OVER_P95 = 1.05, 1.25
"""The table holds 95th percentiles.  Its edition of 2024 gave medians: 4 to 6 % less where the cables are the same.
Nobody publishes the 99th; a quarter more is our allowance, until round trips are measured."""


def distance_km(a: Point, b: Point) -> float:
    """Along the great circle."""
    phi, lam, psi, mu = (math.radians(x) for x in (a.latitude, a.longitude, b.latitude, b.longitude))
    half = math.sin((psi - phi) / 2) ** 2 + math.cos(phi) * math.cos(psi) * math.sin((mu - lam) / 2) ** 2
    return 2 * EARTH_KM * math.asin(min(1.0, math.sqrt(half)))


def by_distance(km: float) -> Quantiles:
    """What the line says, with the error that it has on the table."""
    on_line_s = LINE_S + LINE_S_PER_KM * km
    return Quantiles(on_line_s * ERROR_P50 / P95_OVER_P50, on_line_s * ERROR_P90, on_line_s * ERROR_P99)


def by_table(a: str, b: str) -> Quantiles | None:
    """What the table says of two of its rows; None where it says nothing."""
    p95_s = table().get((a, b))
    return None if p95_s is None else Quantiles(p95_s / P95_OVER_P50, p95_s, p95_s * P99_OVER_P95)


@cache
def table() -> Mapping[tuple[str, str], float]:
    """95th percentile of the round trip between two rows, seconds, both ways round."""
    found: dict[tuple[str, str], float] = {}
    names: list[str] = []
    for line in data_lines("azure_rtt.csv"):
        name, *figures = line.split(",")
        for other, milliseconds in zip(names, figures, strict=True):
            found[name, other] = found[other, name] = float(milliseconds) / 1000
        names.append(name)
    return found


@cache
def anywhere() -> Quantiles:
    """For two ends of which one is unknown: the quantiles of the whole table."""
    ordered = sorted(table().values())
    p50_s, p90_s, p99_s = (ordered[int(share * (len(ordered) - 1))] for share in (0.5, 0.9, 0.99))
    return Quantiles(p50_s, p90_s, p99_s)


@cache
def rows() -> Mapping[str, Point]:
    """Where each row of the table stands."""
    return {city.table: city.point for city in cities() if city.table}
