"""The fleet file: which places there are, what stands for what, and what the operator asks of every request.

    [gateway]                        here, catalogue, token_env, mdns
    [points.shop]                    latitude, longitude, country
    [policy]                         ttft, itl, total, cost, quality, scope, strict
    [[place]]                        name, kind, url, key_env, location, regions, models, max_in_flight, price, options
    [[place.model]]                  id, upstream, price, quality, context, abilities, regions
    [[route]]                        name, targets = ["PLACE/MODEL", …]

A mistake is told with file, line and fix, before anything is built.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from isochrone.budget import Budget, Policy
from isochrone.errors import BadConfig, BadRequest
from isochrone.places import located
from isochrone.places.catalogue import Catalogue, load, take_price
from isochrone.places.located import Located
from isochrone.places.place import ABILITIES, Price
from isochrone.places.spec import ModelSpec, PlaceSpec
from isochrone.routing.geography import Geography, Point, regions_of
from isochrone.routing.geography.geography import LOCAL, SITE
from isochrone.routing.geography.regions import AREAS, provider_of, regions
from isochrone.routing.records import Target
from isochrone.units import parse_usd

from .registry import KINDS

T = TypeVar("T")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,127}")
_COUNTRY = re.compile(r"[a-z]{2}")
NUM_MAX = 1_000_000
NEEDS_URL = ("isochrone", "openai")
PROVIDERS = {"bedrock": "aws", "vertex": "gcp"}
NODE = "node:"
"""In front of the names of nodes that announced themselves, so that none can take the name of a place of the file."""
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True)
class FleetFile:
    """A fleet file, checked.

    routes     a caller's name for a model -> the targets that may answer it, none preferred
    token_env  the environment variable that holds the token with which nodes join; empty: none may
    mdns       look for nodes on the local network
    """

    places: tuple[PlaceSpec, ...]
    routes: Mapping[str, tuple[Target, ...]] = field(default_factory=dict)
    policy: Policy = field(default_factory=lambda: Policy(is_routed=True))
    geography: Geography = field(default_factory=Geography, compare=False)
    catalogue: Catalogue = field(default_factory=load, compare=False)
    token_env: str = ""
    mdns: bool = False


def read_fleet(file: Path) -> FleetFile:
    """Raises BadConfig, which names file, line and fix."""
    return parse_fleet(file.parent, located.read(file))


def parse_fleet(folder: Path, top: Located) -> FleetFile:
    """folder  that a relative path in the file starts from"""
    gateway = top.take_table("gateway")
    here, catalogue, token_env, mdns = _gateway(gateway, folder) if gateway else ("", load(), "", False)
    points = {name: _point(name, table) for name, table in top.take_named("points")}
    geography = _told(gateway or top, "here", lambda: Geography(here, points))
    policy = _policy(top.take_table("policy"), geography)
    places = _places(top, geography, catalogue)
    routes = _routes(top, places)
    top.expect_empty()
    if not places and not token_env and not mdns:
        raise top.wrong(
            "the fleet has no places, and none can join.",
            fix="Add a [[place]], or let nodes join: token_env under [gateway].",
        )
    return FleetFile(tuple(places.values()), routes, policy, geography, catalogue, token_env, mdns)


def _gateway(table: Located, folder: Path) -> tuple[str, Catalogue, str, bool]:
    here, own, token_env = table.take_text("here"), table.take_text("catalogue"), _variable(table, "token_env")
    mdns = table.take_switch("mdns")
    table.expect_empty()
    if mdns and not token_env:
        raise table.wrong(
            "mdns without a token would let anybody on the network answer for us.",
            fix='Name the variable of the token: token_env = "FLEET_TOKEN".', key="mdns",
        )  # fmt: skip
    catalogue = _told(table, "catalogue", lambda: load(folder / own if own else None))
    return here, catalogue, token_env, mdns


def _point(name: str, table: Located) -> Point:
    latitude, longitude = table.need_number("latitude", -90, 90), table.need_number("longitude", -180, 180)
    country = table.take_text("country")
    table.expect_empty()
    if country and not _COUNTRY.fullmatch(country):
        raise table.wrong(f"country is {country!r}.", fix='Write its ISO code, such as "de".', key="country")
    if not _NAME.fullmatch(name) or name in (LOCAL, SITE) or name in regions() or name in AREAS:
        raise table.wrong(
            f"{name!r} cannot name a point: it is no plain word, or names a region or an area already.",
            fix="Give the point another name, of letters, digits, dots and dashes.",
        )
    return Point(latitude, longitude, country)


def _policy(table: Located | None, geography: Geography) -> Policy:
    if table is None:
        return Policy(is_routed=True, expect_scope=geography.expect_scope)
    cost, scope = table.take_text("cost"), table.take_text("scope", "any")
    budget = Budget(
        table.take_duration("ttft"), table.take_duration("itl"), table.take_duration("total"),
        _told(table, "cost", lambda: parse_usd(cost)) if cost else None, table.take_number("quality", 0.0, 1.0), scope,
    )  # fmt: skip
    strict = table.take_switch("strict")
    table.expect_empty()
    _told(table, "scope", lambda: geography.expect_scope(scope))
    return Policy(budget, strict, is_routed=True, expect_scope=geography.expect_scope)


def _places(top: Located, geography: Geography, catalogue: Catalogue) -> dict[str, PlaceSpec]:
    places: dict[str, PlaceSpec] = {}
    for table in top.take_tables("place"):
        spec = _place(table, geography, catalogue)
        if twice := places.get(spec.name):
            raise table.wrong(
                f"{spec.name!r} is the name of the place in line {twice.line}, too.", fix="Give it another.", key="name"
            )
        places[spec.name] = spec
    return places


def _place(table: Located, geography: Geography, catalogue: Catalogue) -> PlaceSpec:
    name = table.need_text("name", "edge-1")
    if not _NAME.fullmatch(name):
        raise table.wrong(f"{name!r} cannot name a place.", fix="Use letters, digits, dots and dashes.", key="name")
    kind = table.need_text("kind", "openai")
    if kind not in KINDS:
        raise table.wrong(f"{kind!r} is no kind of place.", fix=f"Write one of {', '.join(KINDS)}.", key="kind")
    url = _url(table, kind)
    price = table.take_table("price")
    options = table.take_table("options")
    spec = PlaceSpec(
        name, kind, url, _variable(table, "key_env"), _location(table, kind, url, geography),
        _regions(table, geography), max_in_flight=table.take_whole("max_in_flight", 1, NUM_MAX),
        price=take_price(price)[0] if price else None, options=options.rest() if options else {}, line=table.line,
    )  # fmt: skip
    if spec.key_env and _is_in_clear(spec):
        raise table.wrong(
            f"the key of {name} would go to {spec.location} in clear, for everybody on the way to read.",
            fix="Write https, or the private address that a VPN gives it.", key="url",
        )  # fmt: skip
    models = _models(table, spec, geography, catalogue)
    table.expect_empty()
    if not models and kind in ("bedrock", "vertex", "gemini"):
        raise table.wrong(f"{name} names no models.", fix='Say which it may use: models = ["…"].')
    return replace(spec, models=models)


def _models(table: Located, spec: PlaceSpec, geography: Geography, catalogue: Catalogue) -> tuple[ModelSpec, ...]:
    """From the short list (`models`) and the long one (`[[place.model]]`), completed from the catalogue."""
    found = {name: ModelSpec(name, name) for name in table.take_texts("models")}
    for one in table.take_tables("model"):
        model = _model(one, geography)
        if model.id in found:
            raise one.wrong(f"{spec.name} names {model.id!r} twice.", fix="Remove one of them.", key="id")
        found[model.id] = model
    return tuple(completed(spec, model, catalogue) for model in found.values())


def _model(table: Located, geography: Geography) -> ModelSpec:
    id = table.need_text("id", "assistant")
    price = table.take_table("price")
    abilities = table.take_texts("abilities")
    if unknown := [ability for ability in abilities if ability not in ABILITIES]:
        raise table.wrong(
            f"{unknown[0]!r} is no ability.", fix=f"Write some of {', '.join(ABILITIES)}.", key="abilities"
        )
    model = ModelSpec(
        id, table.take_text("upstream", id), take_price(price)[0] if price else None,
        table.take_number("quality", 0.0, 1.0), table.take_whole("context", 1, 1 << 31), abilities or None,
        _regions(table, geography),
    )  # fmt: skip
    table.expect_empty()
    return model


def completed(spec: PlaceSpec, model: ModelSpec, catalogue: Catalogue) -> ModelSpec:
    """What the file does not say of a model, from the place and the catalogue."""
    price: Price | None = model.price or spec.price or catalogue.price(spec.kind, spec.url, model.upstream)
    return replace(
        model, price=price,
        quality=catalogue.quality(model.upstream) if model.quality is None else model.quality,
        context=catalogue.context(model.upstream) if model.context is None else model.context,
        regions=model.regions or spec.regions or regions_of(spec.kind, model.upstream, spec.location),
    )  # fmt: skip


def _routes(top: Located, places: Mapping[str, PlaceSpec]) -> dict[str, tuple[Target, ...]]:
    routes: dict[str, tuple[Target, ...]] = {}
    for table in top.take_tables("route"):
        name, texts = table.need_text("name", "assistant"), table.take_texts("targets")
        table.expect_empty()
        if name in routes:
            raise table.wrong(f"{name!r} is the name of another route, too.", fix="Join their targets.", key="name")
        if not texts:
            raise table.wrong(f"the route {name} has no targets.", fix='Write targets = ["PLACE/MODEL"].')
        routes[name] = tuple(dict.fromkeys(_target(table, text, places) for text in texts))
    return routes


def _target(table: Located, text: str, places: Mapping[str, PlaceSpec]) -> Target:
    """A route may name a node that joins later (`node:NAME/MODEL`); every other place must be in the file."""
    place, _, model = text.partition("/")
    spec = places.get(place)
    if not model or (spec is None and not place.startswith(NODE)):
        raise table.wrong(
            f"{text!r} is no target: it names no place of this file.",
            fix=f"Write PLACE/MODEL with one of the places {', '.join(places) or '(there are none)'}.", key="targets",
        )  # fmt: skip
    if spec is not None and spec.models and spec.model(model) is None:
        ids = ", ".join(one.id for one in spec.models)
        raise table.wrong(f"{place} has no model {model!r}.", fix=f"Write one of {ids}.", key="targets")
    return place, model


def _url(table: Located, kind: str) -> str:
    url = table.take_text("url")
    if not url:
        if kind in NEEDS_URL:
            raise table.wrong("url is missing.", fix='Say where it listens: url = "http://10.0.0.7:8000/v1".')
        return ""
    if not is_url(url):
        raise table.wrong(
            f"{url!r} is no address of a server.", fix="Write http:// or https://, a host and a port.", key="url"
        )
    return url.rstrip("/")


def _is_in_clear(spec: PlaceSpec) -> bool:
    """Whether what is sent there can be read on the way: plain HTTP to beyond this site, and no private address."""
    parts = urlsplit(spec.url)
    if parts.scheme != "http" or spec.location in (LOCAL, SITE) or parts.hostname in LOOPBACK:
        return False
    try:
        return not ip_address(parts.hostname or "").is_private
    except ValueError:
        return True  # a name: nobody knows who answers to it


def is_url(text: str) -> bool:
    """Whether a server can be reached at it: http or https, a host, and no name or password in it."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.username is None and parts.port != 0
    except ValueError:
        return False


def _location(table: Located, kind: str, url: str, geography: Geography) -> str:
    location = table.take_text("location")
    if not location:
        if kind == "local" or urlsplit(url).hostname in LOOPBACK:
            return LOCAL
        raise table.wrong(
            "location is missing: nobody could tell which prompts may go there.",
            fix='Write location = "site" for the local network, or a region such as "eu-central-1".',
        )
    _told(table, "location", lambda: geography.expect_known(location))
    provider = PROVIDERS.get(kind)
    if provider and provider_of(location) != provider and not (kind == "vertex" and location in AREAS):
        raise table.wrong(
            f"{location} is no region of {provider}, where {kind} runs.",
            fix=f"Write the region that {kind} is asked in.", key="location",
        )  # fmt: skip
    return location


def _regions(table: Located, geography: Geography) -> tuple[str, ...]:
    named = table.take_texts("regions")
    for region in named:
        _told(table, "regions", lambda region=region: geography.expect_known(region))  # type: ignore[misc]
    return named


def _variable(table: Located, key: str) -> str:
    """The name of an environment variable; a key pasted in its place is not repeated in the message."""
    name = table.take_text(key)
    if name and not _VARIABLE.fullmatch(name):
        raise table.wrong(
            f"{key} holds no name of an environment variable.",
            fix=f'Put the secret itself into a variable, and write its name: {key} = "PLACE_KEY".', key=key,
        )  # fmt: skip
    return name


def _told(table: Located, key: str, make: Callable[[], T]) -> T:
    """What `make` gives; its complaint with the line of this key.  A complaint with a line of its own stays."""
    try:
        return make()
    except (BadConfig, BadRequest) as error:
        if key == "catalogue":
            raise
        raise table.wrong(f"{key}: {error.message}", fix=error.fix, key=key) from None
