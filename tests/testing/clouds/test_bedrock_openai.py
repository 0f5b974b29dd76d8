"""Bedrock's OpenAI-compatible endpoint: the openai SDK drives the test cloud, and so does our place, signing itself."""

import hashlib
import json

import aiohttp
import openai
import pytest
from openai.providers.bedrock import bedrock

from isochrone.errors import BadConfig, PlaceRefused, Throttled
from isochrone.places.bedrock import Bedrock, from_spec
from isochrone.places.bedrock_auth import AwsAuth, openai_url_of
from isochrone.places.bedrock_sign import Credentials
from isochrone.places.openai_place import OpenAIPlace
from isochrone.places.place import Chat, Message, Tool, Usage
from isochrone.places.spec import ModelSpec, PlaceSpec
from isochrone.testing.clouds import Answer, Call, Count, Fault, Script, serving
from isochrone.testing.clouds.bedrock import BedrockCloud
from tests.testing.clouds.bedrock_boto import REGION, clear, collect, deltas, request, text_of

HELLO = [{"role": "user", "content": "hi"}]


@pytest.fixture
def cloud(monkeypatch, tmp_path):
    clear(monkeypatch, tmp_path)
    with serving(BedrockCloud(region=REGION)) as cloud:
        yield cloud


@pytest.fixture(params=["signature", "key"])
def client(cloud, request):
    lasting = cloud.gate.lasting
    given = {"access_key_id": lasting.access_key, "secret_access_key": lasting.secret_key}
    provider = bedrock(
        endpoint="runtime", base_url=f"{cloud.url}/openai/v1", region=REGION,
        **(given if request.param == "signature" else {"api_key": cloud.gate.bearer}),
    )  # fmt: skip
    with openai.OpenAI(provider=provider, max_retries=0) as client:
        yield client


def test_the_openai_sdk_streams_from_bedrock(cloud, client):
    cloud.script = Script(default=Answer("You said {prompt}.", count=Count(9, 3, 4)))
    stream = client.chat.completions.create(
        model="openai.gpt-oss-20b-1:0", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "You said hi."
    assert chunks[-1].usage.total_tokens == 12 and chunks[-1].usage.prompt_tokens_details.cached_tokens == 4


def test_the_openai_sdk_reads_calls_and_refusals(cloud, client):
    cloud.script = Script(plays=(Answer(calls=(Call("f", {"a": 1}, "c1"),)), Fault("throttled"), Fault("denied")))
    choice = client.chat.completions.create(model="m", messages=HELLO).choices[0]
    assert choice.finish_reason == "tool_calls"
    assert json.loads(choice.message.tool_calls[0].function.arguments) == {"a": 1}
    for error in (openai.RateLimitError, openai.PermissionDeniedError):
        with pytest.raises(error):
            client.chat.completions.create(model="m", messages=HELLO)


async def test_our_signature_opens_the_same_door(cloud):
    lasting = cloud.gate.lasting
    auth = AwsAuth(REGION, credentials=Credentials(lasting.access_key, lasting.secret_key), environ={})
    base = openai_url_of(REGION, environ={"AWS_ENDPOINT_URL_BEDROCK_RUNTIME": cloud.url})
    url, body = f"{base}/chat/completions", json.dumps({"model": "m", "messages": HELLO}).encode()
    headers = {"Content-Type": "application/json"}
    async with aiohttp.ClientSession() as session:
        signed = headers | await auth.headers("POST", url, headers, body)
        async with session.post(url, data=body, headers=signed) as answer:
            assert answer.status == 200 and (await answer.json())["choices"][0]["finish_reason"] == "stop"
        async with session.post(url, data=body + b" ", headers=signed) as answer:
            assert answer.status == 403 and answer.headers["x-amzn-ErrorType"] == "InvalidSignatureException"
        digest = {"X-Amz-Content-SHA256": hashlib.sha256(body).hexdigest()}
        signed = headers | digest | await auth.headers("POST", url, headers | digest, body)
        async with session.post(url, data=body + b" ", headers=signed) as answer:
            assert answer.status == 403


OSS = (ModelSpec("m", "openai.gpt-oss-20b-1:0"),)


def spec_of(cloud, *, key_env="", models=OSS, **options):
    url = f"{cloud.url}/openai/v1"
    options = {"api": "openai"} | options
    return PlaceSpec("aws", "bedrock", url, key_env, location=REGION, models=models, options=options)


@pytest.fixture
async def placed(cloud):
    """Builds places of the cloud's, and closes them."""
    places = []

    def build(**more):
        places.append(from_spec(spec_of(cloud, **more)))
        return places[-1]

    yield build
    for place in places:
        await place.close()


@pytest.fixture(params=["signature", "key"])
def ours(cloud, placed, request, monkeypatch):
    """Our place, proving itself in one way or the other."""
    if request.param == "key":
        monkeypatch.setenv("BEDROCK_KEY", cloud.gate.bearer)
        return placed(key_env="BEDROCK_KEY")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", cloud.gate.lasting.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", cloud.gate.lasting.secret_key)
    return placed()


async def test_our_place_streams_from_bedrocks_other_face(cloud, ours):
    cloud.script = Script(default=Answer("You said {prompt}.", count=Count(9, 3, 4)))
    items = await collect(ours, request())
    assert text_of(items) == "You said Hello there." and deltas(items)[-1].usage == Usage(9, 3, 4)
    assert cloud.seen[-1].path == "/openai/v1/chat/completions"
    assert cloud.seen[-1].body["model"] == "openai.gpt-oss-20b-1:0"
    assert (ours.location, ours.flavour) == (REGION, "bedrock")


async def test_our_place_reads_calls_and_refusals_there(cloud, ours):
    cloud.script = Script(plays=(Answer(calls=(Call("f", {"a": 1}, "c1"),)), Fault("throttled"), Fault("denied")))
    items = await collect(ours, request(Chat((Message("user", "hi"),), tools=(Tool("f"),))))
    parts = [part for delta in deltas(items) for part in delta.tool_calls]
    assert json.loads("".join(part.arguments for part in parts)) == {"a": 1}
    for error in (Throttled, PlaceRefused):
        with pytest.raises(error):
            await collect(ours, request())
    assert ours.num_in_flight == 0


async def test_credentials_that_expire_are_found_anew_there_too(cloud, placed, monkeypatch):
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{cloud.url}/credentials")
    place = placed()
    assert text_of(await collect(place, request()))
    cloud.gate.expire()
    for _ in range(2):
        assert text_of(await collect(place, request()))
    assert [seen.state for seen in await cloud.settled()] == ["answered", "refused", "answered", "answered"]


async def test_a_wrong_clock_is_corrected_there_too(cloud):
    lasting, real = cloud.gate.lasting, cloud.gate._now
    credentials = Credentials(lasting.access_key, lasting.secret_key)
    auth = AwsAuth(REGION, credentials=credentials, environ={}, now=lambda: real() + 7200.0)
    place = OpenAIPlace("aws", f"{cloud.url}/openai/v1", models=OSS, flavour="bedrock", signer=auth)
    assert text_of(await collect(place, request()))
    await place.close()
    assert [seen.state for seen in await cloud.settled()] == ["refused", "answered"]


async def test_keys_that_are_wrong_are_refused_once_and_told(cloud, placed, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", cloud.gate.lasting.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    with pytest.raises(PlaceRefused, match="signature"):
        await collect(placed(), request())
    assert len(cloud.seen) == 1


async def test_a_fleet_file_says_which_face_and_is_told_of_mistakes(cloud, placed):
    for mistake in ({"api": "opneai"}, {"regoin": "x"}, {"models": ()}):
        with pytest.raises(BadConfig):
            placed(**mistake)
    place = placed(api="converse")
    assert isinstance(place, Bedrock)
    options = {"api": "openai", "mantle": True}
    here = from_spec(PlaceSpec("aws", "bedrock", location=REGION, models=OSS, options=options))
    assert here._web.url == f"https://bedrock-mantle.{REGION}.api.aws/openai/v1"
    await here.close()
