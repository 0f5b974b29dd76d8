"""What models cost and how good they are: the dated table that is shipped, under the operator's own.

An operator's file has the form of the shipped one; its entries come first, name by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlsplit

from . import bedrock_profiles, located
from .place import Price

USD_PER_MILLION_MAX = 10_000.0
SHIPPED = "catalogue.toml"


@dataclass(frozen=True, slots=True)
class Entry:
    """One model.

    at              who sells it at this price: a kind of place, or the host of an OpenAI-compatible service
    profile_factor  what a geographic profile costs above the model's own id
    *_source        where a figure is from, as a sentence with its date
    """

    names: tuple[str, ...]
    at: tuple[str, ...] = ()
    price: Price | None = None
    profile_factor: float = 1.0
    context: int | None = None
    quality: float | None = None
    price_source: str = ""
    quality_source: str = ""


class Catalogue:
    """Entries by the names of their models, the first of each name counts.  dated  day of the shipped table"""

    def __init__(self, entries: Iterable[Entry], dated: str, benchmark: str) -> None:
        self.entries, self.dated, self.benchmark = tuple(entries), dated, benchmark
        self._by_name: dict[str, Entry] = {}
        for entry in self.entries:
            for name in entry.names:
                self._by_name.setdefault(name.lower(), entry)

    def find(self, upstream: str) -> Entry | None:
        """The model that a place knows by that name: as it is, behind a profile, or without its maker's name."""
        for name in (upstream, bedrock_profiles.base_model(upstream), upstream.rpartition("/")[2]):
            if entry := self._by_name.get(name.lower()):
                return entry
        return None

    def price(self, kind: str, url: str, upstream: str) -> Price | None:
        """What that place takes for it; None where the table does not say: own machines, unknown services."""
        entry = self.find(upstream)
        seller = urlsplit(url).hostname or "" if kind == "openai" else kind
        if entry is None or entry.price is None or seller not in entry.at:
            return None
        base = bedrock_profiles.base_model(upstream)
        is_geographic = kind == "bedrock" and base != upstream and not upstream.startswith("global.")
        return scaled(entry.price, entry.profile_factor) if is_geographic else entry.price

    def quality(self, upstream: str) -> float | None:
        """Its benchmark score, 0 to 1, wherever it runs."""
        entry = self.find(upstream)
        return None if entry is None else entry.quality

    def context(self, upstream: str) -> int | None:
        """Most tokens of prompt and answer; None where the table does not say."""
        entry = self.find(upstream)
        return None if entry is None else entry.context


def scaled(price: Price, factor: float) -> Price:
    """Every part of a price times a factor."""

    def times(usd: float | None) -> float | None:
        return None if usd is None else usd * factor

    return Price(
        price.prompt_usd_per_million * factor, price.completion_usd_per_million * factor,
        times(price.cached_prompt_usd_per_million), times(price.cache_write_usd_per_million),
    )  # fmt: skip


def load(own: Path | None = None) -> Catalogue:
    """The shipped table under the operator's.  Raises BadConfig, which names file, line and fix."""
    shipped = _shipped()
    if own is None:
        return shipped
    table = _parsed(located.read(own))
    return Catalogue((*table.entries, *shipped.entries), shipped.dated, table.benchmark or shipped.benchmark)


def take_price(table: located.Located, sources: Mapping[str, str] | None = None) -> tuple[Price, str]:
    """(a price, its source) as TOML states it: prompt, completion, cached_prompt, cache_write."""
    usd = {
        key: table.take_number(key, 0.0, USD_PER_MILLION_MAX)
        for key in ("prompt", "completion", "cached_prompt", "cache_write")
    }
    source = _source(table, sources)
    table.expect_empty()
    if usd["prompt"] is None or usd["completion"] is None:
        raise table.wrong(
            "a price lacks prompt or completion.",
            fix="State both, in US dollars for a million tokens: { prompt = 0.10, completion = 0.40 }.",
        )
    return Price(usd["prompt"], usd["completion"], usd["cached_prompt"], usd["cache_write"]), source


@cache
def _shipped() -> Catalogue:
    return _parsed(located.parse((files(__package__) / SHIPPED).read_text(encoding="utf-8"), SHIPPED))


def _parsed(top: located.Located) -> Catalogue:
    dated, benchmark = top.take_text("dated"), top.take_text("benchmark")
    named = top.take_table("sources")
    sources = {} if named is None else {key: str(value) for key, value in named.rest().items()}
    entries = [_entry(table, sources) for table in top.take_tables("model")]
    top.expect_empty()
    return Catalogue(entries, dated, benchmark)


def _entry(table: located.Located, sources: Mapping[str, str]) -> Entry:
    names = table.take_texts("names")
    if not names:
        raise table.wrong("a model has no names.", fix='Add a line such as: names = ["my-model"].')
    entry = Entry(names, table.take_texts("at"), context=table.take_whole("context", 1, 1 << 31))
    entry = replace(entry, profile_factor=table.take_number("profile_factor", 0.1, 10.0) or 1.0)
    if price := table.take_table("price"):
        usd, source = take_price(price, sources)
        entry = replace(entry, price=usd, price_source=source)
    if quality := table.take_table("quality"):
        score, source = quality.need_number("score", 0.0, 1.0), _source(quality, sources)
        quality.expect_empty()
        entry = replace(entry, quality=score, quality_source=source)
    table.expect_empty()
    return entry


def _source(table: located.Located, sources: Mapping[str, str] | None) -> str:
    """The sentence that a source's short name stands for; an operator may write the sentence itself."""
    named = table.take_text("source")
    return (sources or {}).get(named, named)
