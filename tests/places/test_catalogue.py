"""Prices and scores have a source and a date, an operator's come first, and a mistake is told with its line."""

import re

import pytest

from isochrone.errors import BadConfig
from isochrone.places.catalogue import load
from isochrone.places.place import Price

HAIKU = "anthropic.claude-haiku-4-5-20251001-v1:0"


def test_every_shipped_figure_has_a_source_and_the_day_it_was_looked_up():
    catalogue = load()
    assert catalogue.dated.startswith("20") and catalogue.benchmark
    assert len(catalogue.entries) > 25
    for entry in catalogue.entries:
        for figure, source in ((entry.price, entry.price_source), (entry.quality, entry.quality_source)):
            assert figure is None or re.search(r"\b20\d\d-\d\d-\d\d\b", source), entry.names
        assert not entry.price_source.startswith("unverified"), "a price that nobody can look up is no price"
    names = [name for entry in catalogue.entries for name in entry.names]
    assert len(names) == len(set(names))


def test_a_price_holds_only_where_it_is_asked():
    catalogue = load()
    assert catalogue.price("bedrock", "", "amazon.nova-lite-v1:0") == Price(0.06, 0.24, 0.015)
    assert catalogue.price("openai", "https://api.openai.com/v1", "gpt-4o-mini").completion_usd_per_million == 0.6
    assert catalogue.price("openai", "http://10.0.0.2:8000/v1", "gpt-oss-20b") is None
    assert catalogue.price("openai", "http://10.0.0.2:8000/v1", "gpt-4o-mini") is None
    assert catalogue.price("bedrock", "", "unheard.of") is None


def test_a_geographic_profile_costs_more_than_the_global_one():
    catalogue = load()
    plain, world, union = (catalogue.price("bedrock", "", name + HAIKU) for name in ("", "global.", "eu."))
    assert plain == world == Price(1.0, 5.0, 0.1, 1.25)
    assert union.prompt_usd_per_million == pytest.approx(1.1) and union.cache_write_usd_per_million > 1.25


def test_a_score_follows_the_model_wherever_it_runs():
    catalogue = load()
    assert catalogue.quality("openai/gpt-oss-20b") == catalogue.quality("openai.gpt-oss-20b-1:0") == 0.75
    assert catalogue.quality("eu." + HAIKU) == catalogue.quality(HAIKU)
    assert catalogue.quality("unheard-of") is None


def test_an_operators_entry_comes_first_and_the_rest_stays(tmp_path):
    own = tmp_path / "prices.toml"
    own.write_text(
        '[[model]]\nnames = ["gpt-4o-mini", "mine"]\nat = ["api.openai.com"]\n'
        'price = { prompt = 0.1, completion = 0.2, source = "our contract" }\nquality = { score = 0.5 }\n'
    )
    catalogue = load(own)
    assert catalogue.price("openai", "https://api.openai.com/v1", "gpt-4o-mini") == Price(0.1, 0.2)
    assert catalogue.find("mine").price_source == "our contract" and catalogue.quality("mine") == 0.5
    assert catalogue.quality("gpt-4o") == load().quality("gpt-4o")


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("[[model]]\nname = ['a']\n", 1, "no names"),
        ("[[model]]\nnames = ['a']\nprise = 1\n", 3, "price"),
        ("[[model]]\nnames = ['a']\n[[model]]\nnames = ['b']\n\nprice = { prompt = 1 }\n", 6, "completion"),
        ("[[model]]\nnames = ['a']\nquality = { score = 60 }\n", 3, "0 to 1"),
        ("[[model]]\nnames = ['a']\ncontext = 1.5\n", 3, "whole"),
    ],
)
def test_a_mistake_is_told_with_its_line(tmp_path, text, line, words):
    own = tmp_path / "prices.toml"
    own.write_text(text)
    with pytest.raises(BadConfig) as caught:
        load(own)
    assert f"prices.toml, line {line}:" in caught.value.message and words in str(caught.value)
