"""Bedrock's OpenAI-compatible endpoint: the openai SDK drives the test cloud, and `AwsAuth` signs for it."""

import hashlib
import json

import aiohttp
import openai
import pytest
from openai.providers.bedrock import bedrock

from isochrone.places.bedrock_auth import AwsAuth, openai_url_of
from isochrone.places.bedrock_sign import Credentials
from isochrone.testing.clouds import Answer, Call, Count, Fault, Script, serving
from isochrone.testing.clouds.bedrock import BedrockCloud
from tests.testing.clouds.bedrock_boto import REGION, clear

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
