"""Our client for Gemini models against the test cloud, which Google's own client is held against elsewhere."""

import asyncio
import time
from contextlib import aclosing, asynccontextmanager

import msgspec
import pytest

from isochrone.budget import Budget, Deadline
from isochrone.errors import (
    BadConfig,
    BadRequest,
    ContentFiltered,
    ContextTooLong,
    DeadlineExceeded,
    NotFound,
    Overloaded,
    PlaceRefused,
    Throttled,
    Unreachable,
    Unsupported,
)
from isochrone.places import gemini, vertex
from isochrone.places.gemini_settings import GeminiModel, GeminiSettings
from isochrone.places.place import Chat, Delta, Format, Message, Partial, Prompted, Request, Text, Tool, ToolCall
from isochrone.places.spec import ModelSpec, PlaceSpec
from isochrone.places.vertex_auth import GoogleAuth
from isochrone.testing.clouds import Answer, Block, Call, Count, Fault, Script
from isochrone.testing.clouds.vertex import VertexCloud
from isochrone.testing.clouds.vertex_identity import PROJECT, SUBJECT_TOKEN
from isochrone.testing.runtime import SimulatedClock

MODEL = "gemini-2.5-flash"
MODELS = (GeminiModel(MODEL), GeminiModel("gemini-3-pro"), GeminiModel("begun", MODEL, prefill=True))
DEADLINE = Deadline.start(Budget(), time.monotonic())


@asynccontextmanager
async def opened(script=Script(), *, clock=None, kind="vertex", auth=None, ours=time.monotonic, **settings):
    """(cloud, place)  clock  the cloud's;  ours: the place's"""
    async with VertexCloud(script, clock=clock or SimulatedClock()) as cloud:
        place = place_of(cloud, kind=kind, auth=auth, ours=ours, **settings)
        try:
            yield cloud, place
        finally:
            await place.close()
            assert place.num_in_flight == 0


def place_of(cloud, *, kind="vertex", auth=None, ours=time.monotonic, **settings):
    made = GeminiSettings(MODELS, url=cloud.url, **settings)
    if kind == "gemini":
        return gemini.Gemini("google", made, key=cloud.identity.api_key, clock=ours)
    auth = auth or GoogleAuth(cloud.identity.service_account())
    return vertex.Vertex("google", made, location="europe-west4", auth=auth, clock=ours)


def ask(text="hi", model=MODEL, **fields):
    messages = fields.pop("messages", (Message("user", text),))
    chat = Chat(messages, **fields.pop("chat", {}))
    return Request("r", model, "t", chat, **fields)


async def answer_of(place, request, deadline=DEADLINE):
    return [item async for item in place.complete(request, deadline)]


def text_of(items):
    return "".join(item.text for item in items if isinstance(item, Delta))


@pytest.mark.parametrize("kind", ["vertex", "gemini"])
async def test_words_and_thoughts_stream_and_what_google_counted_comes_last(kind):
    script = Script(default=Answer("It is {prompt}.", thought="Let me see.", count=Count(9, 3, 4, num_thought=5)))
    async with opened(script, kind=kind) as (_, place):
        prompted, *deltas = await answer_of(place, ask("sunny"))
    assert isinstance(prompted, Prompted)
    assert [delta.text for delta in deltas if delta.text] == ["It ", "is ", "sunny."]
    assert "".join(delta.reasoning for delta in deltas) == "Let me see."
    usage = deltas[-1].usage
    assert (usage.num_prompt, usage.num_answer, usage.num_cached, usage.num_reasoning) == (9, 8, 4, 5)
    assert deltas[-1].finish_reason == "stop"


async def test_a_call_comes_whole_and_its_signature_goes_back_with_it():
    script = Script(plays=(Answer(calls=(Call("weather", {"town": "Ulm"}), Call("clock"))), Answer("Sunny.")))
    chat = {"tools": (Tool("weather"), Tool("clock"))}
    async with opened(script) as (cloud, place):
        items = await answer_of(place, ask("Ulm?", "gemini-3-pro", chat=chat))
        calls = [call for item in items if isinstance(item, Delta) for call in item.tool_calls]
        assert [(call.index, call.name, call.arguments) for call in calls] == [
            (0, "weather", '{"town":"Ulm"}'),
            (1, "clock", "{}"),
        ]
        assert items[-1].finish_reason == "tool_calls"
        turns = (
            Message("user", "Ulm?"),
            Message("assistant", "", tool_calls=tuple(ToolCall(c.id, c.name, c.arguments) for c in calls)),
            *(Message("tool", "clear", tool_call_id=call.id) for call in calls),
        )
        again = await answer_of(place, ask(model="gemini-3-pro", messages=turns, chat=chat))
        assert text_of(again) == "Sunny."
        parts = cloud.seen[-1].body["contents"][1]["parts"]
    assert parts[0]["thoughtSignature"] == "c2lnbmVkOndlYXRoZXI="
    assert "thoughtSignature" not in parts[1]


async def test_a_signature_goes_back_to_the_model_that_gave_it_and_to_no_other():
    chat = {"tools": (Tool("weather"),)}
    async with opened(Script(plays=(Answer(calls=(Call("weather"),)),))) as (cloud, place):
        items = await answer_of(place, ask("Ulm?", "gemini-3-pro", chat=chat))
        (call,) = [call for item in items if isinstance(item, Delta) for call in item.tool_calls]
        turns = (
            Message("user", "Ulm?"),
            Message("assistant", "", tool_calls=(ToolCall(call.id, call.name, call.arguments),)),
            Message("tool", "clear", tool_call_id=call.id),
        )
        await answer_of(place, ask(model=MODEL, messages=turns, chat=chat))
    assert "thoughtSignature" not in cloud.seen[-1].body["contents"][1]["parts"][0]


async def test_a_call_of_another_model_is_told_to_be_unsigned():
    turns = (
        Message("user", "Ulm?"),
        Message("assistant", "", tool_calls=(ToolCall("x", "weather", "{}"),)),
        Message("tool", '{"sky": "clear"}', tool_call_id="x"),
    )
    async with opened() as (cloud, place):
        assert text_of(await answer_of(place, ask(model="gemini-3-pro", messages=turns)))
        assert cloud.seen[-1].body["contents"][2]["parts"][0]["functionResponse"]["response"] == {"sky": "clear"}


@pytest.mark.parametrize(
    ("kind", "error", "retry_after_s"),
    [
        ("throttled", Throttled, 2.5),
        ("overloaded", Overloaded, 2.5),
        ("unavailable", Overloaded, 2.5),
        ("internal", Unreachable, None),
        ("timeout", Unreachable, None),
        ("denied", PlaceRefused, None),
        ("unauthenticated", PlaceRefused, None),
        ("not_found", NotFound, None),
        ("invalid", BadRequest, None),
        ("too_long", ContextTooLong, None),
    ],
)
async def test_each_refusal_is_its_own_error_and_comes_before_anything_is_said(kind, error, retry_after_s):
    async with opened(Script(default=Fault(kind, retry_after_s=2.5))) as (_, place):
        with pytest.raises(error) as told:
            await answer_of(place, ask())
        assert type(told.value) is error
        assert getattr(told.value, "retry_after_s", None) == retry_after_s
        assert bool(place.status().why) == (error is PlaceRefused)


@pytest.mark.parametrize(
    ("play", "error"),
    [
        (Answer("One two three.", cut_after=2), Unreachable),
        (Answer("One two three.", fault_after=2, fault=Fault("throttled")), Throttled),
        (Answer("One two three.", fault_after=2), Unreachable),
    ],
)
async def test_a_stream_that_dies_ends_in_an_error_after_what_was_said(play, error):
    said = []
    async with opened(Script(default=play)) as (_, place):
        with pytest.raises(error):
            async for item in place.complete(ask(), DEADLINE):
                said.append(item)
    assert text_of(said) == "One two "


async def test_a_filter_is_a_typed_result_before_and_within_an_answer():
    plays = (Block("JAILBREAK"), Answer("", finish="filter", block_reason="SPII"), Answer("Well", finish="filter"))
    async with opened(Script(plays=plays)) as (_, place):
        for reason in ("JAILBREAK", "SPII"):
            with pytest.raises(ContentFiltered) as told:
                await answer_of(place, ask())
            assert told.value.reason == reason
        items = await answer_of(place, ask())
    assert (text_of(items), items[-1].finish_reason) == ("Well", "content_filter")


async def test_closing_an_answer_hangs_up():
    async with opened(Script(default=Answer("One two three.", stall_after=1))) as (cloud, place):
        async with aclosing(place.complete(ask(), DEADLINE)) as items:
            async for item in items:
                if isinstance(item, Delta):
                    break
        async with asyncio.timeout(10):
            while cloud.num_in_flight:
                await asyncio.sleep(0)
        assert cloud.seen[-1].state == "hung_up"


@pytest.mark.parametrize("kind", ["vertex", "gemini"])
async def test_a_stated_deadline_cuts_an_answer_and_refuses_one_that_has_not_begun(kind):
    clock = SimulatedClock()
    until = Deadline.start(Budget(total_s=29.5), clock())
    async with opened(Script(default=Answer("One two.", stall_after=1)), kind=kind, ours=clock) as (cloud, place):
        items = []
        async for item in place.complete(ask(dated=True), until):
            items.append(item)
            if len(items) == 2:
                clock.advance(30.0)
        assert (text_of(items), items[-1].ended_by) == ("One ", "deadline")
        assert cloud.seen[-1].headers["x-server-timeout"] == "30"
        with pytest.raises(DeadlineExceeded):
            await answer_of(place, ask(dated=True), until)


async def test_a_token_that_ended_in_the_middle_of_a_run_is_renewed_and_no_caller_hears_of_it():
    clock = SimulatedClock()
    async with opened(clock=clock) as (cloud, place):
        for _ in range(3):
            answers = await asyncio.gather(*(answer_of(place, ask()) for _ in range(8)))
            assert all(text_of(items) for items in answers)
            clock.advance(3601.0)  # the cloud's clock alone: we believe the token to be good
        assert cloud.identity.num_given == 3
        cloud.identity.revoke()
        assert text_of(await answer_of(place, ask()))


async def test_a_token_that_ends_soon_is_renewed_while_requests_go_on():
    async with opened(Script(credential_s=60.0)) as (cloud, place):
        for _ in range(3):
            assert text_of(await answer_of(place, ask()))
        await place._auth._renewing
        assert cloud.identity.num_given > 1
        assert {seen.state for seen in await cloud.settled()} == {"answered"}


async def test_a_workload_identity_and_a_metadata_server_give_tokens(tmp_path, monkeypatch):
    from google.auth.compute_engine import _metadata

    word = tmp_path / "word"
    word.write_text(SUBJECT_TOKEN)
    async with VertexCloud() as cloud:
        federated = GoogleAuth(cloud.identity.external_account(str(word)))
        host = cloud.url.removeprefix("http://")
        monkeypatch.setenv("GCE_METADATA_HOST", host)
        monkeypatch.setattr(_metadata, "_GCE_METADATA_HOST", host)
        monkeypatch.setenv("GCE_METADATA_IP", host)
        monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
        monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
        for auth in (federated, GoogleAuth()):
            headers = await auth.headers()
            assert headers["authorization"].startswith("Bearer ya29.")
        assert auth.project == PROJECT
        word.write_text("something else")
        with pytest.raises(PlaceRefused, match="subject_token"):
            await GoogleAuth(cloud.identity.external_account(str(word))).headers()


async def test_a_token_endpoint_that_is_gone_is_unreachable_and_a_wrong_key_is_refused():
    async with VertexCloud() as cloud:
        info = cloud.identity.service_account()
        place = gemini.Gemini("google", GeminiSettings(MODELS, url=cloud.url), key="AIza-wrong")
        with pytest.raises(PlaceRefused, match="API key"):
            await answer_of(place, ask())
        await place.close()
    with pytest.raises(Unreachable):
        await GoogleAuth(info).headers()


async def test_priority_capacity_and_labels_are_told_and_a_downgrade_is_noticed():
    async with opened(tier="priority", labels={"team": "edge"}) as (cloud, place):
        await answer_of(place, ask())
        assert place.num_downgraded == 0
        assert cloud.seen[-1].body["labels"] == {"team": "edge"}
    async with opened(capacity="dedicated") as (cloud, place):
        await answer_of(place, ask())
        assert cloud.seen[-1].headers["x-vertex-ai-llm-request-type"] == "dedicated"
    async with opened(kind="gemini", tier="flex") as (cloud, place):
        await answer_of(place, ask())
        assert cloud.seen[-1].body["serviceTier"] == "flex"


async def test_an_answer_begun_elsewhere_is_gone_on_with_where_the_operator_says_so():
    request = ask(partial=Partial("One two ", num_tokens=2), max_tokens=10)
    async with opened() as (cloud, place):
        with pytest.raises(Unsupported, match="partial"):
            await answer_of(place, request)
        await answer_of(place, msgspec.structs.replace(request, model="begun"))
        body = cloud.seen[-1].body
    assert body["contents"][-1] == {"role": "model", "parts": [{"text": "One two "}]}
    assert body["generationConfig"]["maxOutputTokens"] == 8


@pytest.mark.parametrize(
    "request_",
    [ask(n=2), ask(num_top=0), ask(echo=True), ask(stop_token_ids=(1,)), ask(format=Format("regex", "a+")),
     ask(stops=tuple("abcdef")), Request("r", MODEL, "t", Text("hi"))],
)  # fmt: skip
async def test_what_google_cannot_be_asked_is_refused_and_not_left_out(request_):
    async with opened() as (cloud, place):
        with pytest.raises(Unsupported):
            await answer_of(place, request_)
        assert cloud.seen == []


@pytest.mark.parametrize(
    ("location", "host"),
    [
        ("global", "https://aiplatform.googleapis.com"),
        ("eu", "https://aiplatform.eu.rep.googleapis.com"),
        ("europe-west4", "https://europe-west4-aiplatform.googleapis.com"),
    ],
)
def test_a_location_says_where_it_is_asked_and_where_it_may_run(location, host, monkeypatch):
    from isochrone.routing.geography import allows

    monkeypatch.delenv("GOOGLE_VERTEX_BASE_URL", raising=False)
    spec = PlaceSpec("google", "vertex", location=location, key_env="KEY", models=(ModelSpec(MODEL, MODEL),))
    monkeypatch.setenv("KEY", "AIza")
    place = vertex.from_spec(spec)
    assert (place._url(), place.location, place.regions(MODEL)) == (host, location, (location,))
    assert allows("region:eu", location, place.regions(MODEL)) == (location != "global")
    assert not allows("region:us", location, place.regions(MODEL))


@pytest.mark.parametrize(
    ("options", "word"), [({"teir": "flex"}, "teir"), ({"tier": "fast"}, "fast"), ({"credentials": "/none"}, "none")]
)
def test_a_fleet_file_is_told_what_is_wrong_with_it(options, word):
    spec = PlaceSpec("google", "vertex", location="eu", models=(ModelSpec(MODEL, MODEL),), options=options)
    with pytest.raises(BadConfig, match=word):
        vertex.from_spec(spec)
