"""A fleet file becomes places, routes and a policy; every mistake in one names its line and a way out."""

import re

import pytest

from isochrone.budget import Budget
from isochrone.errors import BadConfig, BadRequest
from isochrone.places import located
from isochrone.places.place import Price
from isochrone.routing.fleet import parse_fleet, read_fleet
from isochrone.routing.geography.regions import EU, regions

WHOLE = """
[gateway]
here = "shop"
token_env = "FLEET_TOKEN"

[points.shop]
latitude = 48.1
longitude = 11.6
country = "de"

[policy]
scope = "region:eu"
cost = "0.05usd"
total = "1min"

[[place]]
name = "edge"
kind = "openai"
url = "http://10.0.0.5:8000/v1/"
key_env = "EDGE_KEY"
location = "site"
max_in_flight = 16
models = ["qwen2.5-3b-instruct"]

[[place]]
name = "cloud"
kind = "bedrock"
location = "eu-central-1"
options = { tier = "priority" }

[[place.model]]
id = "haiku"
upstream = "eu.anthropic.claude-haiku-4-5-20251001-v1:0"

[[place.model]]
id = "nova"
upstream = "global.amazon.nova-lite-v1:0"
price = { prompt = 0.05, completion = 0.2 }
quality = 0.6
context = 1000

[[route]]
name = "assistant"
targets = ["edge/qwen2.5-3b-instruct", "cloud/haiku", "node:box/small"]
"""


def fleet_of(text, tmp_path):
    return parse_fleet(tmp_path, located.parse(text, "fleet.toml"))


def test_a_file_says_places_routes_and_policy(tmp_path):
    fleet = fleet_of(WHOLE, tmp_path)
    edge, cloud = fleet.places
    assert (edge.name, edge.url, edge.key_env, edge.location) == ("edge", "http://10.0.0.5:8000/v1", "EDGE_KEY", "site")
    assert edge.max_in_flight == 16 and edge.models[0].quality == 0.44 and edge.models[0].price is None
    assert cloud.options == {"tier": "priority"} and [model.id for model in cloud.models] == ["haiku", "nova"]
    assert fleet.policy.budget == Budget(total_s=60.0, cost_usd=0.05, scope="region:eu") and fleet.policy.is_routed
    assert fleet.routes["assistant"][1:] == (("cloud", "haiku"), ("node:box", "small"))
    assert fleet.token_env == "FLEET_TOKEN" and fleet.geography.here == "shop"


def test_what_a_model_lacks_comes_from_the_catalogue_and_what_it_states_stays(tmp_path):
    haiku, nova = fleet_of(WHOLE, tmp_path).places[1].models
    assert haiku.price.prompt_usd_per_million == pytest.approx(1.1) and haiku.quality == 0.8
    assert nova.price == Price(0.05, 0.2) and (nova.quality, nova.context) == (0.6, 1000)


def test_a_profile_that_may_run_anywhere_is_known_to(tmp_path):
    fleet = fleet_of(WHOLE, tmp_path)
    haiku, nova = fleet.places[1].models
    assert all(regions()[name].point.country in EU for name in haiku.regions)
    assert not fleet.geography.why_not("region:eu", "eu-central-1", haiku.regions)
    assert fleet.geography.why_not("region:eu", "eu-central-1", nova.regions)


def test_the_operators_file_of_prices_is_found_beside_the_fleets(tmp_path):
    (tmp_path / "prices.toml").write_text("[[model]]\nnames = ['qwen2.5-3b-instruct']\nquality = { score = 0.9 }\n")
    (tmp_path / "fleet.toml").write_text(WHOLE.replace("[gateway]", '[gateway]\ncatalogue = "prices.toml"'))
    assert read_fleet(tmp_path / "fleet.toml").places[0].models[0].quality == 0.9


def test_a_server_on_this_machine_needs_no_location(tmp_path):
    text = '[[place]]\nname = "here"\nkind = "openai"\nurl = "http://127.0.0.1:8000"\n'
    assert fleet_of(text, tmp_path).places[0].location == "local"


def test_the_policys_scopes_are_those_of_the_file(tmp_path):
    expect_scope = fleet_of(WHOLE, tmp_path).policy.expect_scope
    expect_scope("region:shop")
    with pytest.raises(BadRequest):
        expect_scope("region:shopp")


@pytest.mark.parametrize(
    ("url", "location", "is_taken"),
    [
        ("http://gpu.example.com/v1", "eu-central-1", False),
        ("http://8.8.8.8:8000/v1", "eu-central-1", False),
        ("https://gpu.example.com/v1", "eu-central-1", True),
        ("http://10.0.0.5:8000/v1", "eu-central-1", True),
        ("http://127.0.0.1:8000/v1", "eu-central-1", True),
        ("http://gpu.lan:8000/v1", "site", True),
    ],
)
def test_a_key_goes_to_public_addresses_over_tls_alone(tmp_path, url, location, is_taken):
    place = f'[[place]]\nname = "p"\nkind = "openai"\nurl = "{url}"\nlocation = "{location}"\n'
    assert fleet_of(place, tmp_path).places[0].key_env == ""
    if is_taken:
        assert fleet_of(place + 'key_env = "K"\n', tmp_path).places[0].key_env == "K"
    else:
        with pytest.raises(BadConfig, match="in clear"):
            fleet_of(place + 'key_env = "K"\n', tmp_path)


MISTAKES = [
    ('kind = "openai"', 'kind = "openal"', 'kind = "openal"', "openai"),
    ('kind = "openai"', "", "[[place]]", "kind is missing"),
    ('url = "http://10.0.0.5:8000/v1/"', 'url = "10.0.0.5:8000"', 'url = "10.0', "no address"),
    ('url = "http://10.0.0.5:8000/v1/"', 'url = "http://me:pw@10.0.0.5"', 'url = "http://me', "no address"),
    ('url = "http://10.0.0.5:8000/v1/"', "", "[[place]]", "url is missing"),
    ('location = "site"', 'location = "sit"', 'location = "sit"', "site"),
    ('location = "site"', "", "[[place]]", "location is missing"),
    ('location = "eu-central-1"', 'location = "europe-west3"', "europe-west3", "no region of aws"),
    ("max_in_flight = 16", 'max_in_flight = "16"', "max_in_flight", "without quotes"),
    ("max_in_flight = 16", "max_in_flite = 16", "max_in_flite", "max_in_flight"),
    ('key_env = "EDGE_KEY"', 'key_env = "sk-4f2"', "key_env", "no name of an environment variable"),
    ('name = "cloud"', 'name = "edge"', 'name = "edge"#', "line 16, too"),
    ('id = "nova"', 'id = "haiku"', 'id = "haiku"#', "twice"),
    ("quality = 0.6", "quality = 6", "quality = 6", "0 to 1"),
    ("price = { prompt = 0.05, completion = 0.2 }", "price = { prompt = 0.05 }", "price =", "completion"),
    ('"cloud/haiku"', '"clod/haiku"', "targets", "edge, cloud"),
    ('"cloud/haiku"', '"cloud/haikoo"', "targets", "haiku, nova"),
    ('cost = "0.05usd"', 'cost = "0.05"', "cost", "no currency"),
    ('scope = "region:eu"', 'scope = "region:euu"', "scope", "region:eu"),
    ('total = "1min"', "total = 60", "total", "in quotes"),
    ("latitude = 48.1", "latitude = 148.1", "latitude", "-90 to 90"),
    ('here = "shop"', 'here = "shoop"', "here", "shop"),
    ("[points.shop]", "[points.eu-west-1]", "[points.eu-west-1]", "another name"),
    ("[policy]", "[polizy]", "[polizy]", "policy"),
]


@pytest.mark.parametrize(("old", "new", "where", "words"), MISTAKES)
def test_a_mistake_names_its_line_and_a_way_out(tmp_path, old, new, where, words):
    text = WHOLE.replace(old, new, 1)
    assert text != WHOLE
    with pytest.raises(BadConfig) as caught:
        fleet_of(text, tmp_path)
    found = int(re.search(r"^fleet\.toml, line (\d+): ", caught.value.message)[1])
    lines = text.splitlines()
    expected = [at for at, line in enumerate(lines, 1) if where.rstrip("#") in line]
    assert found == expected[-1 if where.endswith("#") else 0], caught.value.message
    assert words in str(caught.value) and "sk-4f2" not in str(caught.value)


@pytest.mark.parametrize("text", ["[[place]\n", "a = \n", "= 3\n"])
def test_what_is_no_toml_says_so(tmp_path, text):
    with pytest.raises(BadConfig, match=r"fleet\.toml is no TOML"):
        fleet_of(text, tmp_path)


def test_a_fleet_of_nothing_is_refused_unless_nodes_can_join(tmp_path):
    with pytest.raises(BadConfig, match="no places"):
        fleet_of("", tmp_path)
    assert fleet_of('[gateway]\ntoken_env = "T"\n', tmp_path).places == ()


def test_looking_for_nodes_on_the_network_needs_a_token(tmp_path):
    with pytest.raises(BadConfig, match="line 2: mdns without a token"):
        fleet_of("[gateway]\nmdns = true\n", tmp_path)
