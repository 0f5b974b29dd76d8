"""Network time between two points, and whether a prompt may go somewhere: one object that knows where we stand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from isochrone.errors import BadConfig, BadRequest
from isochrone.routing.records import Quantiles

from . import distance
from .measured import RoundTrips
from .regions import AREAS, City, Point, cities, jurisdictions_of, provider_of, regions

LOCAL, SITE = "local", "site"
HERE = Quantiles(0.0, 0.0, 0.0)
LAN = Quantiles(0.5e-3, 1e-3, 3e-3)
"""Within a site: switched Ethernet; radio is measured before it is believed."""
REGION = Quantiles(1.0e-3, 2.0e-3, 4.0e-3)
"""Within a region: 0.9 ms in one zone and 1.6 ms across zones on the mean (Painter, simonpainter.com, 2025)."""
CITY = Quantiles(2.5e-3, 4.5e-3, 9e-3)
"""Between two providers in one city: 2.3 ms in Singapore, 4.1 in London (six-region figures of Aptos, 2024)."""
SCOPES = ("local", "site", "any")


class Geography:
    """What the fleet file says of the world, over the tables that everybody shares.

    here    where the gateway stands: a region, a city or one of `points`; empty: not said
    points  the operator's own, by name
    """

    def __init__(self, here: str = "", points: Mapping[str, Point] | None = None) -> None:
        self.here, self.points = here, dict(points or {})
        self._network: dict[tuple[str, str], Quantiles] = {}
        self._why_not: dict[tuple[str, str, tuple[str, ...]], str] = {}
        if here:
            self.expect_known(here)

    def network(self, a: str, b: str, measured: RoundTrips | None = None) -> Quantiles:
        """Round trip on a connection that stands.  A cold one takes two more: one to connect, one for TLS 1.3.

        Measured where that was done often enough, else by the table of regions, else by distance.  Raises BadConfig
        for a name that nobody knows.
        """
        if measured is not None and measured.rtt is not None:
            return measured.rtt
        key = (a, b)
        if key not in self._network:
            self._network[key] = self._prior(a, b)
        return self._network[key]

    def allows(self, scope: str, location: str, regions: tuple[str, ...] = ()) -> bool:
        """Whether a prompt of this scope may go to a place that runs it at `location`, or anywhere in `regions`."""
        return not self.why_not(scope, location, regions)

    def why_not(self, scope: str, location: str, regions: tuple[str, ...] = ()) -> str:
        """The reason in a few words, empty when it may go there.  What is not known to be inside, is outside."""
        if scope == "any":
            return ""
        key = (scope, location, regions)
        if key not in self._why_not:
            if len(self._why_not) > 4096:
                self._why_not.clear()  # scopes come from callers
            reasons = (self._why_outside(part, location, regions) for part in scope.split("+"))
            self._why_not[key] = next(filter(None, reasons), "")
        return self._why_not[key]

    def expect_scope(self, scope: str) -> None:
        """Raises BadRequest for a scope that is none, naming the nearest.  Of several joined by `+`, each."""
        first, _, more = scope.partition("+")
        if more:
            self.expect_scope(more)
        self._expect_one(first)

    def _expect_one(self, scope: str) -> None:
        kind, _, name = scope.partition(":")
        if scope in SCOPES or (kind == "region" and (self._jurisdictions(name) or name in self._known_jurisdictions())):
            return
        named = [*self._known_jurisdictions(), *self.names()]
        known = [*SCOPES, *map("region:{}".format, named)]
        near = f"region:{scope} is meant" if scope in named else _nearest(scope, known)
        raise BadRequest(
            f"{scope[:40]!r} is no scope.", fix=f"Write local, site, region:NAME or any; {near}.", param="scope",
        )  # fmt: skip

    def expect_known(self, name: str) -> None:
        """Raises BadConfig for what names no spot, naming the nearest."""
        if name not in (LOCAL, SITE) and name not in AREAS and self._spot(name) is None:
            raise BadConfig(
                f"{name[:60]!r} is no region of AWS, Google Cloud or Azure, and no point of the fleet file.",
                fix=f"Name a region or site ({_nearest(name, [SITE, *self.names()])}), or give the point coordinates.",
            )

    def names(self) -> Iterator[str]:
        """Everything that has a spot."""
        yield from self.points
        yield from regions()

    def _why_outside(self, scope: str, location: str, regions: tuple[str, ...]) -> str:
        if scope == "any":
            return ""
        if scope in (LOCAL, SITE):
            is_inside = location == LOCAL or (scope == SITE and location in (SITE, self.here))
            return "" if is_inside and not regions else f"{_where(location, regions)} is outside {scope}"
        name = scope.removeprefix("region:")
        if location in (LOCAL, SITE) and not regions and not self.here:
            return f"nobody said where this gateway stands, so it may be outside {name}"
        outside = [at for at in (regions or (location,)) if name not in self._jurisdictions(at)]
        return f"{', '.join(outside)} is outside {name}" if outside else ""

    def _jurisdictions(self, name: str) -> frozenset[str]:
        """All scopes `region:…` that a spot or an area lies in as a whole."""
        if name in AREAS:
            return AREAS[name]
        if name in (LOCAL, SITE):
            name = self.here
        if name in self.points:
            return self.points[name].jurisdictions | {name}
        city = regions().get(name)
        return frozenset() if city is None else city.point.jurisdictions | {name, city.name}

    def _known_jurisdictions(self) -> frozenset[str]:
        known = {city.point.country for city in cities()} | {point.country for point in self.points.values()}
        return frozenset().union(*map(jurisdictions_of, known)) | {"eu", "eea"}

    def _prior(self, a: str, b: str) -> Quantiles:
        if (a, b) in ((LOCAL, LOCAL), (SITE, SITE)):
            return HERE if a == LOCAL else LAN
        if {a, b} == {LOCAL, SITE}:
            return LAN
        a, b = (self.here if end in (LOCAL, SITE) else end for end in (a, b))
        if not a or not b:
            return distance.anywhere()
        for name in (a, b):
            self.expect_known(name)
        ends = [[name] if name not in AREAS else _cities_of(name) for name in (a, b)]
        return min((self._between(one, other) for one in ends[0] for other in ends[1]), key=lambda rtt: rtt.p50_s)

    def _between(self, a: str, b: str) -> Quantiles:
        """Of two spots that are known."""
        if a == b:
            return REGION
        one, other = self._spot(a), self._spot(b)
        assert one is not None and other is not None  # expected to be known above
        if isinstance(one, City) and isinstance(other, City):
            if one is other:
                return REGION if provider_of(a) == provider_of(b) else CITY
            if found := distance.by_table(one.table, other.table):
                return found
        return distance.by_distance(distance.distance_km(_point(one), _point(other)))

    def _spot(self, name: str) -> City | Point | None:
        return self.points.get(name) or regions().get(name)


WORLD = Geography()
"""The shared tables alone, for whoever has no fleet file."""


def network(a: str, b: str, measured: RoundTrips | None = None, *, geography: Geography = WORLD) -> Quantiles:
    """Round trip between two points, in seconds (`Geography.network`)."""
    return geography.network(a, b, measured)


def allows(scope: str, location: str, regions: tuple[str, ...] = (), *, geography: Geography = WORLD) -> bool:
    """Whether a prompt of that scope may go there (`Geography.allows`; `Geography.why_not` says why it may not)."""
    return geography.allows(scope, location, regions)


def _cities_of(area: str) -> list[str]:
    """Cities that a provider may run an area's work in; the caller enters at the nearest."""
    held = AREAS[area]
    return [city.name for city in cities() if held <= city.point.jurisdictions]


def _point(spot: City | Point) -> Point:
    return spot.point if isinstance(spot, City) else spot


def _where(location: str, regions: tuple[str, ...]) -> str:
    return ", ".join(regions) or location


def _nearest(word: str, known: list[str] | Iterator[str]) -> str:
    from difflib import get_close_matches  # only on the way to an error

    found = get_close_matches(word, list(known), n=1, cutoff=0.0)
    return f"{found[0]} is nearest" if found else "none is known"
