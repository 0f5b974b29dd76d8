"""Regions, endpoints and credentials: found where boto3 finds them, and reported where a prompt may go."""

import json
from pathlib import Path

import botocore
import botocore.session
import pytest

from isochrone.errors import BadConfig, MissingExtra, PlaceRefused
from isochrone.places.bedrock import from_spec
from isochrone.places.bedrock_auth import AwsAuth, endpoint_of, openai_url_of, region_of
from isochrone.places.bedrock_credentials import Botocore, Plain, find_region
from isochrone.places.bedrock_profiles import COMMERCIAL, base_model, partition_of, regions_of
from isochrone.places.bedrock_settings import BedrockModel, BedrockSettings
from isochrone.places.bedrock_spec import settings_of
from isochrone.places.place import Price
from isochrone.places.spec import ModelSpec, PlaceSpec
from isochrone.routing.geography import WORLD
from tests.testing.clouds.bedrock_boto import clear

HAIKU = "anthropic.claude-haiku-4-5-20251001-v1:0"


def partitions():
    text = (Path(botocore.__file__).parent / "data/partitions.json").read_text()
    return {part["id"]: part for part in json.loads(text)["partitions"]}


def test_global_means_commercial_regions_in_every_part_of_the_world_that_the_vendors_client_knows():
    known = {name for name in partitions()["aws"]["regions"] if not name.endswith("-global")}
    assert set(COMMERCIAL) <= known  # a newer client may know younger regions
    assert {name.split("-")[0] for name in COMMERCIAL} == {name.split("-")[0] for name in known}


def test_endpoints_are_the_vendors():
    for name in ("aws", "aws-cn", "aws-us-gov", "aws-eusc"):
        part = partitions()[name]
        for region in part["regions"]:
            if not region.endswith("-global"):
                assert partition_of(region) == (name, part["outputs"]["dnsSuffix"])
    client = botocore.session.Session().create_client(
        "bedrock-runtime", "eu-west-3", aws_access_key_id="a", aws_secret_access_key="b"
    )
    assert endpoint_of("eu-west-3", {}) == client.meta.endpoint_url
    assert endpoint_of("eu-west-3", {"AWS_ENDPOINT_URL_BEDROCK_RUNTIME": "http://x/"}) == "http://x"
    assert openai_url_of("eu-west-3", environ={}) == "https://bedrock-runtime.eu-west-3.amazonaws.com/openai/v1"
    assert openai_url_of("us-east-1", mantle=True) == "https://bedrock-mantle.us-east-1.api.aws/openai/v1"


@pytest.mark.parametrize(
    ("model", "allowed", "refused"),
    [
        (HAIKU, ("region:eu", "any"), ("region:us", "site")),
        ("eu." + HAIKU, ("region:eu", "any"), ("region:us", "local")),
        ("us." + HAIKU, ("any",), ("region:eu",)),
        ("global." + HAIKU, ("any",), ("region:eu", "region:us")),
        ("apac." + HAIKU, ("any",), ("region:eu",)),
        ("mars." + HAIKU, ("any",), ("region:eu",)),
        (f"arn:aws:bedrock:eu-central-1:123456789012:inference-profile/eu.{HAIKU}", ("region:eu",), ("region:us",)),
        (f"arn:aws:bedrock:eu-central-1:123456789012:inference-profile/global.{HAIKU}", ("any",), ("region:eu",)),
        ("arn:aws:bedrock:eu-central-1:123456789012:application-inference-profile/abc", ("any",), ("region:eu",)),
        ("arn:aws:bedrock:eu-central-1:123456789012:prompt-router/abc", ("any",), ("region:eu",)),
        (f"arn:aws:bedrock:eu-central-1::foundation-model/{HAIKU}", ("region:eu", "any"), ("region:us",)),
        ("arn:aws:bedrock:eu-central-1:123456789012:provisioned-model/abc", ("region:eu",), ("region:us",)),
    ],
)
def test_a_profile_that_may_run_elsewhere_is_refused_under_a_scope(model, allowed, refused):
    regions = regions_of(model, "eu-central-1")
    for scope in allowed:
        assert WORLD.allows(scope, "eu-central-1", regions), scope
    for scope in refused:
        assert not WORLD.allows(scope, "eu-central-1", regions), scope


def test_the_region_that_is_asked_counts_as_one_where_it_may_run():
    assert "eu-west-2" in regions_of("eu." + HAIKU, "eu-west-2")
    assert not WORLD.allows("region:eu", "eu-west-2", regions_of("eu." + HAIKU, "eu-west-2"))
    assert regions_of("us-gov." + HAIKU, "us-gov-west-1") == ("us-gov-east-1", "us-gov-west-1")


def test_a_profile_is_named_after_its_model():
    arn = f"arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.{HAIKU}"
    assert base_model("mars." + HAIKU) == base_model("eu." + HAIKU) == base_model(HAIKU) == base_model(arn) == HAIKU


PROFILES = """
[default]
aws_access_key_id = AKDEFAULT
aws_secret_access_key = secret1
[work]
aws_access_key_id = AKWORK
aws_secret_access_key = secret2
aws_session_token = token2
"""
CONFIG = """
[default]
region = eu-west-1
[profile work]
region = eu-west-3
[profile inconfig]
aws_access_key_id = AKCONFIG
aws_secret_access_key = secret3
[profile role]
role_arn = arn:aws:iam::123456789012:role/r
source_profile = work
"""
ENVIRONMENTS = [
    {"AWS_ACCESS_KEY_ID": "AKENV", "AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": "t"},
    {"AWS_ACCESS_KEY_ID": "AKENV", "AWS_SECRET_ACCESS_KEY": "s", "AWS_SECURITY_TOKEN": "u", "AWS_SESSION_TOKEN": "t"},
    {"AWS_ACCESS_KEY_ID": "AKENV", "AWS_SECRET_ACCESS_KEY": "s", "AWS_CREDENTIAL_EXPIRATION": "2099-01-01T00:00:00Z"},
    {},
    {"AWS_PROFILE": "work"},
    {"AWS_PROFILE": "inconfig"},
    {"AWS_PROFILE": "work", "AWS_ACCESS_KEY_ID": "AKENV", "AWS_SECRET_ACCESS_KEY": "s"},
]


@pytest.fixture
def shared(monkeypatch, tmp_path):
    clear(monkeypatch, tmp_path)
    (tmp_path / "credentials").write_text(PROFILES)
    (tmp_path / "config").write_text(CONFIG)
    return monkeypatch


@pytest.mark.parametrize("profile", [None, "work", "inconfig"])
@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=range(len(ENVIRONMENTS)))
def test_without_botocore_the_same_keys_are_found_as_with_it(shared, environment, profile):
    import os

    for name, value in environment.items():
        shared.setenv(name, value)
    plain, full = Plain(profile, os.environ).find(), Botocore(profile).find()
    assert (plain.access_key, plain.secret_key, plain.token, plain.expires_at) == (
        full.access_key, full.secret_key, full.token, full.expires_at,
    )  # fmt: skip


def test_what_needs_botocore_is_said_so(shared):
    import os

    with pytest.raises(MissingExtra, match="role_arn") as missing:
        Plain("role", os.environ).find()
    assert "isochrone[bedrock]" in missing.value.fix
    with pytest.raises(PlaceRefused, match="botocore"):
        Plain("nobody", os.environ).find()


@pytest.mark.parametrize("source", [Plain("x", {"HOME": "/nowhere"}), Botocore(None)], ids=["plain", "botocore"])
def test_nothing_found_is_said_with_a_way_out(monkeypatch, tmp_path, source):
    clear(monkeypatch, tmp_path)
    with pytest.raises(PlaceRefused, match="No AWS credentials") as refused:
        source.find()
    assert "AWS_BEARER_TOKEN_BEDROCK" in refused.value.fix


def test_half_a_key_is_no_key():
    with pytest.raises(PlaceRefused, match="no secret"):
        Plain(None, {"AWS_ACCESS_KEY_ID": "AK"}).find()


def test_the_region_is_found(shared):
    import os

    assert find_region(None, os.environ) == "eu-west-1" and find_region("work", os.environ) == "eu-west-3"
    assert find_region("work", {**os.environ, "AWS_DEFAULT_REGION": "us-east-2"}) == "us-east-2"
    with pytest.raises(BadConfig, match="region"):
        region_of(None, "nobody", os.environ)


async def test_a_key_is_not_sent_in_clear():
    auth = AwsAuth("eu-west-1", key="secret")
    assert await auth.headers("POST", "https://h/x", {}, b"") == {"Authorization": "Bearer secret"}
    assert await auth.headers("POST", "http://127.0.0.1:1/x", {}, b"") == {"Authorization": "Bearer secret"}
    with pytest.raises(BadConfig, match="in clear"):
        await auth.headers("POST", "http://proxy.example/x", {}, b"")


def spec(**more):
    models = more.pop("models", (ModelSpec("haiku", "eu." + HAIKU), ModelSpec("nova", "amazon.nova-pro-v1:0")))
    return PlaceSpec("aws", "bedrock", models=models, **{"location": "eu-central-1", **more})


def test_a_place_is_built_from_the_fleet_file():
    options = {
        "service_tier": "priority", "guardrail": ["g", "1"], "metadata": {"app": "x"}, "silence_s": 30,
        "models": {"nova": {"service_tier": "flex", "latency": "optimized", "skills": {"prefill": True}}},
    }  # fmt: skip
    built = from_spec(spec(options=options, url="http://127.0.0.1:1", price=Price(1.0, 2.0)))
    assert built.name == "aws" and built.location == "eu-central-1" and built.price == Price(1.0, 2.0)
    settings = settings_of(spec(options=options))
    haiku, nova = settings.models
    assert (haiku.tier, haiku.latency, nova.tier, nova.latency) == ("priority", None, "flex", "optimized")
    assert nova.known.prefill and nova.known.schema == "tool" and settings.silence_s == 30.0
    assert "us-east-1" not in built.regions("haiku") and built.regions("nova") == ("eu-central-1",)
    assert [model.id for model in built.status().models] == ["haiku", "nova"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"models": ()}, "no models"),
        ({"options": {"service_teir": "flex"}}, "service_tier"),
        ({"options": {"service_tier": "fast"}}, "priority or default"),
        ({"options": {"caches": "yes"}}, "switch"),
        ({"options": {"silence_s": "long"}}, "number"),
        ({"options": {"guardrail": ["g"]}}, "pair"),
        ({"options": {"models": {"other": {}}}}, "other"),
        ({"options": {"models": {"nova": {"skills": {"schema": "maybe"}}}}}, "output or tool"),
        ({"options": {"models": {"nova": {"skill": {}}}}}, "skills"),
        ({"options": {"metadata": {str(n): "x" for n in range(17)}}}, "17 pairs"),
        ({"options": {"caches": True}, "models": (ModelSpec("m", "meta.llama3-1-8b"),)}, "prompt cache"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_fleet_file_is_named(more, said):
    with pytest.raises(BadConfig) as wrong:
        settings_of(spec(line=7, **more))
    assert said in str(wrong.value)


def test_a_secret_is_not_printed():
    settings = BedrockSettings((BedrockModel("m"),), key="hush")
    assert "hush" not in repr(settings) and "s1" not in repr(Plain(None, {
        "AWS_ACCESS_KEY_ID": "AK", "AWS_SECRET_ACCESS_KEY": "s1"}).find())  # fmt: skip
