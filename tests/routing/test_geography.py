"""Network time is measured, else looked up, else taken from distance; a scope lets nothing out by mistake."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.errors import BadConfig, BadRequest
from isochrone.routing.geography import Geography, Point, RoundTrips, allows, network, regions_of
from isochrone.routing.geography import distance as far
from isochrone.routing.geography.measured import NUM_ENOUGH, NUM_KEPT
from isochrone.routing.geography.regions import AREAS, EU, cities, provider_of, regions

SHOP = Point(48.14, 11.58, "de")  # Munich
FLEET = Geography("shop", {"shop": SHOP, "barn": Point(47.4, 9.7, "at"), "ship": Point(54.0, 8.0)})
NAMES = st.sampled_from(sorted(regions()))


def test_every_provider_has_its_regions_and_no_two_share_a_name():
    named = [region for city in cities() for _, region in city.regions]
    assert len(named) == len(set(named)) and not set(named) & {city.name for city in cities()}
    assert {provider_of(name) for name in ("eu-central-1", "europe-west3", "germanywestcentral")} == {
        "aws", "gcp", "azure",
    }  # fmt: skip
    counts = {p: sum(1 for city in cities() for provider, _ in city.regions if provider == p) for p in ("aws", "gcp")}
    assert counts["aws"] >= 37 and counts["gcp"] >= 42


def test_a_city_lies_near_the_row_of_the_table_that_stands_for_it():
    for city in cities():
        if city.table:
            assert far.distance_km(city.point, far.rows()[city.table]) < 100, city.name


def test_the_line_is_the_one_that_fits_the_table():
    pairs = [(a, b) for a, b in far.table() if a < b]
    km = np.array([far.distance_km(far.rows()[a], far.rows()[b]) for a, b in pairs])
    rtt_s = np.array([far.table()[pair] for pair in pairs])
    weighted = np.stack([np.ones_like(km), km], axis=1) / rtt_s[:, None]
    fitted, *_ = np.linalg.lstsq(weighted, np.ones_like(rtt_s), rcond=None)
    assert fitted == pytest.approx([far.LINE_S, far.LINE_S_PER_KM], rel=0.01)
    ratio = rtt_s / (far.LINE_S + far.LINE_S_PER_KM * km)
    errors = [far.ERROR_P50, far.ERROR_P90, far.ERROR_P99]
    assert np.quantile(ratio, [0.5, 0.9, 0.99]) == pytest.approx(errors, abs=0.02)
    assert np.quantile(np.abs(1 - 1 / ratio), [0.5, 0.9]) == pytest.approx([0.13, 0.32], abs=0.01)


def test_a_pair_of_the_table_is_looked_up_whichever_provider_is_there():
    table = network("eastus", "westeurope")
    assert table.p90_s == pytest.approx(0.090, abs=0.001)
    assert network("us-east-1", "amsterdam") == network("us-east4", "westeurope") == table


def test_a_pair_outside_the_table_goes_by_distance_with_the_error_of_the_line():
    ohio = network("us-east-2", "eu-central-1")
    assert 0.09 < ohio.p50_s < 0.13 < ohio.p90_s < ohio.p99_s < 0.3


def test_measured_round_trips_outweigh_the_table_once_there_are_enough():
    measured = RoundTrips()
    prior = network("eu-central-1", "us-east-1")
    for _ in range(NUM_ENOUGH - 1):
        measured.observe(0.2)
    assert network("eu-central-1", "us-east-1", measured) == prior
    measured.observe(0.3)
    found = network("eu-central-1", "us-east-1", measured)
    assert (found.p50_s, found.p99_s) == (0.2, 0.3)
    for _ in range(NUM_KEPT):
        measured.observe(0.05)
    assert measured.rtt.p99_s == 0.05, "old round trips are forgotten"
    assert measured.connect is None, "connections are counted apart"


def test_time_on_a_connection_and_time_to_make_one_are_kept_apart():
    measured = RoundTrips()
    for _ in range(NUM_ENOUGH):
        measured.observe_connect(0.06)
    assert measured.rtt is None and measured.connect.p50_s == 0.06


@given(NAMES, NAMES)
def test_network_time_is_the_same_both_ways_and_its_quantiles_are_in_order(a, b):
    there = network(a, b)
    assert there == network(b, a)
    assert 0 < there.p50_s <= there.p90_s <= there.p99_s < 1


def test_near_is_nearer_than_far():
    ends = ("local", "site", "barn", "eu-central-1", "us-east-1")
    times = [FLEET.network("local", end).p50_s for end in ends]
    assert times == sorted(times) and times[0] == 0
    assert FLEET.network("local", "global").p50_s <= FLEET.network("local", "eu").p50_s < 0.02


def test_who_does_not_know_where_it_stands_expects_anything():
    unknown = network("local", "us-east-1")
    assert unknown == network("site", "ap-south-1") and unknown.p99_s > 0.25


def test_a_misspelt_region_names_the_nearest():
    with pytest.raises(BadConfig) as caught:
        network("eu-centrl-1", "us-east-1")
    assert "eu-central-1" in caught.value.fix
    with pytest.raises(BadConfig):
        Geography("nowhere-at-all")


@pytest.mark.parametrize(
    ("scope", "location", "regions", "allowed"),
    [
        ("any", "us-east-1", (), True),
        ("any", "eu-west-1", ("global",), True),
        ("local", "local", (), True),
        ("local", "site", (), False),
        ("local", "shop", (), False),
        ("site", "local", (), True),
        ("site", "site", (), True),
        ("site", "shop", (), True),
        ("site", "barn", (), False),
        ("site", "site", ("global",), False),
        ("region:eu", "local", (), True),
        ("region:eu", "barn", (), True),
        ("region:eu", "ship", (), False),
        ("region:ship", "ship", (), True),
        ("region:de", "local", (), True),
        ("region:de", "barn", (), False),
        ("region:eu", "eu-west-1", (), True),
        ("region:eu", "eu-west-2", (), False),
        ("region:eu", "eu-central-2", (), False),
        ("region:uk", "eu-west-2", (), True),
        ("region:gb", "uksouth", (), True),
        ("region:eu", "eu-west-1", ("eu",), True),
        ("region:eu", "eu-west-1", ("global",), False),
        ("region:eu", "eu-west-1", ("unknown",), False),
        ("region:eu", "eu-west-1", ("eu-west-1", "eu-west-3"), True),
        ("region:eu", "eu-west-1", ("eu-west-1", "eu-west-2"), False),
        ("region:eu-west-1", "eu-west-1", ("eu",), False),
        ("region:eu-west-1", "eu-west-1", (), True),
        ("region:us", "us-gov-east-1", ("us-gov",), True),
        ("region:jp", "ap-northeast-1", ("apac",), False),
        ("region:eea", "norwayeast", (), True),
        ("region:eu", "norwayeast", (), False),
        ("region:eu+site", "shop", (), True),
        ("region:eu+site", "barn", (), False),
        ("region:de+region:eu", "barn", (), False),
    ],
)
def test_a_scope_lets_through_what_is_inside_as_a_whole(scope, location, regions, allowed):
    assert FLEET.allows(scope, location, regions) is allowed
    assert bool(FLEET.why_not(scope, location, regions)) is not allowed


def test_a_gateway_that_does_not_know_where_it_stands_is_in_no_region():
    assert not allows("region:eu", "local") and allows("region:eu", "eu-west-1")


@given(NAMES, st.sampled_from(sorted(AREAS)))
def test_work_that_a_provider_spreads_over_an_area_never_leaves_the_callers_region(location, area):
    if allows("region:eu", location, (area,)):
        inside = [city for city in cities() if AREAS[area] <= city.point.jurisdictions]
        assert inside and all(city.point.country in EU for city in inside)


@pytest.mark.parametrize("scope", ["local", "site", "any", "region:eu", "region:us", "region:eu-west-1", "region:shop"])
def test_a_scope_is_known(scope):
    FLEET.expect_scope(scope)


@pytest.mark.parametrize(("scope", "near"), [("region:eur", "region:eu"), ("locl", "local"), ("eu", "region:eu")])
def test_a_scope_that_is_none_names_the_nearest(scope, near):
    with pytest.raises(BadRequest) as caught:
        FLEET.expect_scope(scope)
    assert near in caught.value.fix and caught.value.param == "scope"


@pytest.mark.parametrize(
    ("kind", "upstream", "location", "regions"),
    [
        ("bedrock", "anthropic.claude-sonnet-4-5-20250929-v1:0", "eu-west-1", ()),
        ("bedrock", "xx.anthropic.claude-sonnet-4-5-20250929-v1:0", "eu-west-1", ("unknown",)),
        ("bedrock", "deepseek.v3.1", "eu-west-1", ()),
        ("bedrock", "arn:aws:bedrock:eu-west-1::foundation-model/amazon.nova-lite-v1:0", "eu-west-1", ()),
        ("vertex", "gemini-2.5-flash", "global", ("global",)),
        ("vertex", "gemini-2.5-flash", "europe-west4", ()),
        ("gemini", "gemini-2.5-flash", "europe-west4", ("global",)),
        ("openai", "qwen3", "site", ()),
    ],
)
def test_an_id_says_where_it_may_run(kind, upstream, location, regions):
    assert regions_of(kind, upstream, location) == regions


@pytest.mark.parametrize(
    ("upstream", "location", "allowed"),
    [
        ("eu.anthropic.claude-sonnet-4-5-20250929-v1:0", "eu-west-1", True),
        ("eu.anthropic.claude-sonnet-4-5-20250929-v1:0", "eu-west-2", False),  # asked in London, it passes through it
        ("arn:aws:bedrock:eu-west-1:1:inference-profile/eu.amazon.nova-lite-v1:0", "eu-west-1", True),
        ("arn:aws:bedrock:eu-west-1:1:application-inference-profile/x1", "eu-west-1", False),
        ("apac.amazon.nova-lite-v1:0", "ap-northeast-1", False),
        ("global.anthropic.claude-sonnet-4-5-20250929-v1:0", "eu-west-1", False),
        ("amazon.nova-lite-v1:0", "eu-west-1", True),
    ],
)
def test_a_profile_that_may_leave_the_union_is_no_place_for_its_prompts(upstream, location, allowed):
    assert allows("region:eu", location, regions_of("bedrock", upstream, location)) is allowed
