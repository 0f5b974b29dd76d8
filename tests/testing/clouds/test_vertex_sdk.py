"""Google's own client drives the test cloud: what it cannot read there would be no true wire."""

import asyncio
import json
import subprocess
import sys
import urllib.request

import pytest
from google import genai
from google.auth import exceptions
from google.genai import errors, types
from google.oauth2 import service_account

from isochrone.testing.clouds import Answer, Block, Call, Count, Fault, Script, serving
from isochrone.testing.clouds.vertex import VertexCloud
from isochrone.testing.clouds.vertex_identity import PROJECT, SCOPE
from isochrone.testing.runtime import SimulatedClock

MODEL = "gemini-2.5-flash"
WEATHER = types.Tool(
    function_declarations=[
        types.FunctionDeclaration(
            name="weather",
            description="The weather of a town.",
            parameters_json_schema={"type": "object", "properties": {"town": {"type": "string"}}},
        )
    ]
)


@pytest.fixture(scope="module")
def running():
    clock = SimulatedClock()
    with serving(VertexCloud(clock=clock)) as cloud:
        yield cloud, clock


CLIENTS = []
"""Held until a test ends: the SDK closes what nobody holds, even under a stream that is being read."""


@pytest.fixture
def cloud(running):
    running[0].script = Script()
    yield running[0]
    while CLIENTS:
        CLIENTS.pop().close()


def held(client):
    CLIENTS.append(client)
    return client


def credentials_of(cloud, **changes):
    return service_account.Credentials.from_service_account_info(
        cloud.identity.service_account() | changes, scopes=[SCOPE]
    )


def vertex(cloud, **changes):
    return held(
        genai.Client(
            vertexai=True,
            project=PROJECT,
            location="europe-west4",
            credentials=credentials_of(cloud, **changes),
            http_options=types.HttpOptions(base_url=cloud.url),
        )
    )


def gemini(cloud, key=None):
    options = types.HttpOptions(base_url=cloud.url)
    return held(genai.Client(api_key=key or cloud.identity.api_key, http_options=options))


@pytest.mark.parametrize("client_of", [vertex, gemini])
def test_the_sdk_streams_words_and_thoughts_and_counts_both(cloud, client_of):
    cloud.script = Script(default=Answer("It is {prompt} here.", thought="Let me see."))
    config = types.GenerateContentConfig(thinking_config=types.ThinkingConfig(include_thoughts=True))
    stream = client_of(cloud).models.generate_content_stream(model=MODEL, contents="sunny", config=config)
    chunks = list(stream)
    parts = [part for chunk in chunks for part in chunk.candidates[0].content.parts]
    assert "".join(part.text for part in parts if part.thought) == "Let me see."
    assert [part.text for part in parts if not part.thought] == ["It ", "is ", "sunny ", "here.", ""]
    usage = chunks[-1].usage_metadata
    assert (usage.prompt_token_count, usage.candidates_token_count, usage.thoughts_token_count) == (1, 4, 3)
    assert chunks[-1].candidates[0].finish_reason == types.FinishReason.STOP


def test_the_sdk_gets_a_whole_answer_with_the_cached_tokens(cloud):
    cloud.script = Script(default=Answer("Two words.", thought="Unseen.", count=Count(50, 2, num_cached=40)))
    response = vertex(cloud).models.generate_content(model=MODEL, contents="hi")
    assert response.text == "Two words."
    assert response.usage_metadata.cached_content_token_count == 40
    assert response.usage_metadata.traffic_type == types.TrafficType.ON_DEMAND


def test_the_async_sdk_streams_many_answers_at_once(cloud):
    async def ask(client, word):
        stream = await client.aio.models.generate_content_stream(model=MODEL, contents=word)
        return "".join([chunk.text or "" async for chunk in stream])

    async def ask_all():
        client = vertex(cloud)
        return await asyncio.gather(*(ask(client, f"word{n}") for n in range(20)))

    cloud.script = Script(default=Answer("You said {prompt} to me."))
    assert asyncio.run(ask_all()) == [f"You said word{n} to me." for n in range(20)]


def test_the_sdk_calls_a_tool_and_brings_its_result_with_the_signature(cloud):
    cloud.script = Script(plays=(Answer(calls=(Call("weather", {"town": "Ulm"}),)), Answer("Sunny.")))
    chat = gemini(cloud).chats.create(
        model="gemini-3-pro", config=types.GenerateContentConfig(tools=[WEATHER])
    )
    (call,) = chat.send_message("How is Ulm?").function_calls
    assert (call.name, call.args) == ("weather", {"town": "Ulm"})
    part = types.Part.from_function_response(name="weather", response={"sky": "clear"})
    assert chat.send_message(part).text == "Sunny."


def test_a_call_without_its_signature_is_refused_by_models_that_sign(cloud):
    turns = [
        types.UserContent("How is Ulm?"),
        types.ModelContent(types.Part.from_function_call(name="weather", args={})),
        types.UserContent(types.Part.from_function_response(name="weather", response={})),
    ]
    with pytest.raises(errors.ClientError, match="thought_signature"):
        gemini(cloud).models.generate_content(model="gemini-3-pro", contents=turns)
    assert gemini(cloud).models.generate_content(model=MODEL, contents=turns).text


@pytest.mark.parametrize(
    ("kind", "code", "status"),
    [
        ("throttled", 429, "RESOURCE_EXHAUSTED"),
        ("overloaded", 503, "UNAVAILABLE"),
        ("internal", 500, "INTERNAL"),
        ("timeout", 504, "DEADLINE_EXCEEDED"),
        ("denied", 403, "PERMISSION_DENIED"),
        ("not_found", 404, "NOT_FOUND"),
        ("too_long", 400, "INVALID_ARGUMENT"),
    ],
)
def test_the_sdk_reads_each_refusal(cloud, kind, code, status):
    cloud.script = Script(default=Fault(kind, retry_after_s=2.5))
    with pytest.raises(errors.APIError) as told:
        list(vertex(cloud).models.generate_content_stream(model=MODEL, contents="hi"))
    assert (told.value.code, told.value.status) == (code, status)
    assert told.value.details["error"]["details"][0]["retryDelay"] == "2.5s"


def test_an_error_in_the_middle_of_a_stream_reaches_the_sdk_as_an_error(cloud):
    cloud.script = Script(default=Answer("One two three.", fault_after=2, fault=Fault("unavailable")))
    texts = []
    with pytest.raises(errors.ServerError):
        for chunk in vertex(cloud).models.generate_content_stream(model=MODEL, contents="hi"):
            texts.append(chunk.text)
    assert texts == ["One ", "two "]


def test_throttling_ends_by_itself(running, cloud):
    clock = running[1]
    cloud.script = Script(throttle_s=30.0)
    client = gemini(cloud)
    with pytest.raises(errors.ClientError, match="RESOURCE_EXHAUSTED"):
        client.models.generate_content(model=MODEL, contents="hi")
    clock.advance(31.0)
    assert client.models.generate_content(model=MODEL, contents="hi").text


def test_a_blocked_prompt_has_a_reason_and_no_candidates(cloud):
    cloud.script = Script(default=Block("PROHIBITED_CONTENT"))
    response = gemini(cloud).models.generate_content(model=MODEL, contents="hi")
    assert response.prompt_feedback.block_reason == types.BlockedReason.PROHIBITED_CONTENT
    assert not response.candidates


def test_credentials_that_end_are_renewed_by_the_sdk_in_the_middle_of_a_run(running, cloud):
    clock, client, given = running[1], vertex(cloud), cloud.identity.num_given
    cloud.script = Script(credential_s=1.0)
    for _ in range(3):
        assert client.models.generate_content(model=MODEL, contents="hi").text
        clock.advance(2.0)  # by now the cloud takes the token no more
    assert cloud.identity.num_given >= given + 3


def test_a_token_that_the_cloud_ended_is_refused(cloud):
    client = vertex(cloud)
    client.models.generate_content(model=MODEL, contents="hi")
    cloud.identity.revoke()
    with pytest.raises(errors.ClientError, match="UNAUTHENTICATED"):
        client.models.generate_content(model=MODEL, contents="hi")


@pytest.mark.parametrize(("field", "value"), [("client_email", "nobody@example.com"), ("private_key", None)])
def test_an_assertion_that_is_not_the_accounts_gets_no_token(cloud, field, value):
    if value is None:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import rsa

        value = rsa.generate_private_key(65537, 2048).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()
    with pytest.raises(exceptions.RefreshError, match="invalid_grant"):
        vertex(cloud, **{field: value}).models.generate_content(model=MODEL, contents="hi")


def test_a_wrong_key_is_refused_as_google_does(cloud):
    with pytest.raises(errors.ClientError, match="API key not valid"):
        gemini(cloud, "AIza-wrong").models.generate_content(model=MODEL, contents="hi")


def test_a_field_that_google_does_not_know_is_refused(cloud):
    options = types.HttpOptions(extra_body={"generationConfig": {"warmth": 1}})
    with pytest.raises(errors.ClientError, match="warmth"):
        gemini(cloud).models.generate_content(
            model=MODEL, contents="hi", config=types.GenerateContentConfig(http_options=options)
        )


def test_priority_is_asked_by_a_header_and_told_with_the_usage(cloud):
    options = types.HttpOptions(headers={"X-Vertex-AI-LLM-Shared-Request-Type": "priority"})
    response = vertex(cloud).models.generate_content(
        model=MODEL, contents="hi", config=types.GenerateContentConfig(http_options=options)
    )
    assert response.usage_metadata.traffic_type == types.TrafficType.ON_DEMAND_PRIORITY


def test_a_cloud_runs_as_a_process_and_is_scripted_over_the_wire(tmp_path):
    file = tmp_path / "script.toml"
    file.write_text('[default]\ntype = "answer"\ntext = "From a file."\n')
    command = [sys.executable, "-m", "isochrone.testing.clouds", "vertex", "--script", str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            facts = json.loads(process.stdout.readline())
            client = genai.Client(api_key=facts["api_key"], http_options=types.HttpOptions(base_url=facts["url"]))
            assert client.models.generate_content(model=MODEL, contents="hi").text == "From a file."
            script = b'{"plays": [{"type": "fault", "kind": "internal"}]}'
            request = urllib.request.Request(f"{facts['url']}/_control/script", data=script, method="PUT")
            urllib.request.urlopen(request).close()
            with pytest.raises(errors.ServerError):
                client.models.generate_content(model=MODEL, contents="hi")
            with urllib.request.urlopen(f"{facts['url']}/_control/seen") as answer:
                states = [seen["state"] for seen in json.load(answer)["seen"]]
            assert states == ["answered", "refused"]
        finally:
            process.terminate()
