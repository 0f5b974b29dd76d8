"""The regions of AWS, Google Cloud and Azure, where they stand and whose law holds there.

A *name* is a region (`eu-central-1`, `europe-west3`, `germanywestcentral`), a city of the table (`frankfurt`) or an
*area* that a provider spreads work over (`eu`, `us`, `global`).  No two providers share the name of a region.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

EU = frozenset("at be bg cy cz de dk ee es fi fr gr hr hu ie it lt lu lv mt nl pl pt ro se si sk".split())
EEA = EU | {"is", "li", "no"}
PROVIDERS = ("aws", "gcp", "azure")

AREAS: Mapping[str, frozenset[str]] = {
    "eu": frozenset({"eu", "eea"}),
    "us": frozenset({"us"}),
    "us-gov": frozenset({"us"}),
    "ca": frozenset({"ca"}),
    "jp": frozenset({"jp"}),
    "au": frozenset({"au"}),
    "uk": frozenset({"gb", "uk"}),
    "apac": frozenset(),  # many countries: inside no single jurisdiction
    "global": frozenset(),
}
"""Areas that providers run requests in -> the jurisdictions that hold all of it."""


@dataclass(frozen=True, slots=True)
class Point:
    """A spot on the globe, degrees.  country  ISO code of two letters, lower case; empty: not said"""

    latitude: float
    longitude: float
    country: str = ""

    @property
    def jurisdictions(self) -> frozenset[str]:
        """The names of law that hold there: its country, `eu`, `eea`."""
        return jurisdictions_of(self.country)


@dataclass(frozen=True, slots=True)
class City:
    """A place where regions stand.  table  its row in the table of round trips; empty: none"""

    name: str
    point: Point
    table: str
    regions: tuple[tuple[str, str], ...]


def jurisdictions_of(country: str) -> frozenset[str]:
    """A country and the unions it is in; `uk` is the same as `gb`."""
    if not country:
        return frozenset()
    unions = {name for name, members in (("eu", EU), ("eea", EEA)) if country in members}
    return frozenset({country, *unions, *({"uk"} if country == "gb" else ())})


@cache
def cities() -> tuple[City, ...]:
    """Every city of the table."""
    return tuple(
        City(
            row["city"],
            Point(float(row["latitude"]), float(row["longitude"]), row["country"]),
            row["table"],
            tuple((provider, region) for provider in PROVIDERS for region in row[provider].split()),
        )
        for row in csv.DictReader(data_lines("cities.csv"))
    )


@cache
def regions() -> Mapping[str, City]:
    """City of each region and of each city's own name."""
    found = {city.name: city for city in cities()}
    for city in cities():
        found.update({region: city for _, region in city.regions})
    return found


@cache
def provider_of(region: str) -> str:
    """`aws`, `gcp` or `azure`; empty for what is no region."""
    city = regions().get(region)
    return next((provider for provider, name in city.regions if name == region), "") if city else ""


def data_lines(name: str) -> Iterable[str]:
    """Lines of a data file of this room, without its comments."""
    text = (files(__package__) / name).read_text(encoding="utf-8")
    return (line for line in text.splitlines() if line and not line.startswith("#"))
