"""Our client of Amazon Bedrock, over real sockets, against the test cloud."""

import asyncio
import json

import pytest

from isochrone.budget import Budget, Deadline
from isochrone.errors import (
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
from isochrone.places.bedrock_auth import AwsAuth
from isochrone.places.bedrock_settings import BedrockModel, BedrockSettings, Skills
from isochrone.places.bedrock_sign import Credentials
from isochrone.places.place import Chat, Format, Message, Partial, Prompted, Tool, ToolCall, ToolChoice, Usage
from isochrone.testing.clouds import Answer, Block, Call, Count, Fault, Script
from isochrone.testing.clouds.bedrock import BedrockCloud
from isochrone.testing.runtime import SimulatedClock
from tests.testing.clouds.bedrock_boto import (
    MODEL,
    REGION,
    chat,
    clear,
    collect,
    deadline,
    deltas,
    last_body,
    opened,
    placed,
    request,
    text_of,
)

WEATHER = Tool("weather", "Says it", {"type": "object", "properties": {"city": {"type": "string"}}})
SCHEMA = Format("json_schema", '{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}')
BY_TOOL = BedrockModel("m", "amazon.nova-pro-v1:0")


@pytest.fixture
async def cloud():
    async with BedrockCloud(region=REGION) as cloud:
        yield cloud


async def test_an_answer_streams_with_its_thoughts_and_what_amazon_counted(cloud):
    cloud.script = Script(default=Answer("You said {prompt}.", thought="Let me see.", count=Count(100, 7, 60, 30, 3)))
    async with placed(cloud) as place:
        items = await collect(place, request())
        assert place.num_in_flight == 0
    assert text_of(items) == "You said Hello there."
    assert "".join(delta.reasoning for delta in deltas(items)) == "Let me see."
    last = deltas(items)[-1]
    assert last.finish_reason == "stop" and last.usage == Usage(100, 10, 60, 30) and last.num_cached == 60
    assert (await cloud.settled())[-1].state == "answered"


async def test_a_model_that_does_not_stream_answers_in_one_piece(cloud):
    call = Call("weather", {"city": "Bern"}, "t1")
    cloud.script = Script(default=Answer("one two", thought="hm", calls=(call,)))
    async with placed(cloud, BedrockModel("m", MODEL, streams=False)) as place:
        items = await collect(place, request(chat(tools=(WEATHER,))))
    assert cloud.seen[-1].path.endswith("/converse")
    whole, last = deltas(items)
    assert (whole.text, whole.reasoning, last.finish_reason) == ("one two", "hm", "tool_calls")
    assert json.loads("".join(part.arguments for part in whole.tool_calls)) == {"city": "Bern"}


async def test_calls_come_in_pieces_with_their_ids(cloud):
    cloud.script = Script(default=Answer("I look.", calls=(Call("weather", {"city": "Bern"}, "t1"), Call("weather"))))
    async with placed(cloud) as place:
        items = await collect(place, request(chat(tools=(WEATHER,))))
    parts = [part for delta in deltas(items) for part in delta.tool_calls]
    assert [(part.index, part.name) for part in parts if part.id] == [(0, "weather"), (1, "weather")]
    arguments = {index: "".join(p.arguments for p in parts if p.index == index) for index in (0, 1)}
    assert json.loads(arguments[0]) == {"city": "Bern"} and arguments[1] == "{}"
    assert deltas(items)[-1].finish_reason == "tool_calls"


THINKER = BedrockModel("m", MODEL, fields={"thinking": {"type": "enabled", "budget_tokens": 1024}})


def after(items, question="Hello there"):
    """The conversation so far, as a client of OpenAI's protocol brings it back: without any thought."""
    parts = [part for delta in deltas(items) for part in delta.tool_calls]
    ids = [(part.id, part.name) for part in parts if part.id]
    calls = tuple(ToolCall(id, name, "{}") for id, name in ids)
    results = tuple(Message("tool", "rain", tool_call_id=call.id) for call in calls)
    return (Message("user", question), Message("assistant", text_of(items), tool_calls=calls), *results)


@pytest.mark.parametrize("streams", [True, False])
async def test_what_was_thought_before_a_call_goes_back_with_it_as_it_was_signed(cloud, streams):
    calls = (Call("weather"), Call("weather"))
    thinking = Answer("I look.", thought="Let me see. ", calls=calls)
    cloud.script = Script(plays=(thinking, Answer(thought="One more.", calls=calls[:1]), Answer("It rains.")))
    model = BedrockModel("m", MODEL, fields=THINKER.fields, streams=streams)
    async with placed(cloud, model) as place:
        first = after(await collect(place, request(chat(tools=(WEATHER,)))))
        second = await collect(place, request(Chat(first, tools=(WEATHER,))))
        turns = (*first, *after(second)[1:])
        assert text_of(await collect(place, request(Chat(turns, tools=(WEATHER,))))) == "It rains."
    assert {seen.state for seen in await cloud.settled()} == {"answered"}  # the cloud checks each signature
    begun, _, again, _ = last_body(cloud)["messages"][1:]
    thoughts = [turn["content"][0]["reasoningContent"]["reasoningText"]["text"] for turn in (begun, again)]
    assert thoughts == ["Let me see. ", "One more."]
    assert [next(iter(block)) for block in begun["content"]] == ["reasoningContent", "text", "toolUse", "toolUse"]


async def test_calls_whose_thoughts_are_lost_are_for_another_place(cloud):
    cloud.script = Script(default=Answer(thought="Hm.", calls=(Call("weather"),)))
    async with placed(cloud, THINKER, remembers=1) as place:
        turns = [after(await collect(place, request(chat(tools=(WEATHER,))))) for _ in range(2)]
        with pytest.raises(Unsupported, match="no longer knows"):
            await collect(place, request(Chat(turns[0], tools=(WEATHER,))))
        assert len(place._thoughts) == 1 and len(cloud.seen) == 2
        await collect(place, request(Chat(turns[1], tools=(WEATHER,))))
    async with placed(cloud) as place:  # a model that was not told to think wants nothing back
        await collect(place, request(Chat(turns[0], tools=(WEATHER,))))
    assert "reasoningContent" not in str(last_body(cloud))


async def test_only_calls_that_the_caller_allows_are_given_away(cloud):
    calls = (Call("weather"), Call("other"), Call("weather", {"city": "Bern"}))
    cloud.script = Script(default=Answer(calls=calls))
    async with placed(cloud) as place:
        one = await collect(place, request(chat(tools=(WEATHER,), parallel_tool_calls=False)))
        earlier = Message("assistant", "", tool_calls=(ToolCall("t1", "weather", "{}"),))
        turns = (Message("user", "hi"), earlier, Message("tool", "rain", tool_call_id="t1"))
        prompt = chat(tools=(WEATHER,), tool_choice=ToolChoice("none"))
        none = await collect(place, request(type(prompt)(turns, tools=(WEATHER,), tool_choice=ToolChoice("none"))))
    assert [part.name for delta in deltas(one) for part in delta.tool_calls if part.id] == ["weather"]
    assert not any(delta.tool_calls for delta in deltas(none)) and deltas(none)[-1].finish_reason == "stop"


async def test_a_schema_is_kept_by_amazon_where_the_model_can_and_by_a_forced_call_elsewhere(cloud):
    cloud.script = Script(default=Answer('{"a": 1}'))
    async with placed(cloud) as place:
        items = await collect(place, request(format=SCHEMA))
        assert place.schema_way("m") == "output"
    assert text_of(items) == '{"a": 1}'
    structure = last_body(cloud)["outputConfig"]["textFormat"]["structure"]
    assert json.loads(structure["jsonSchema"]["schema"]) == json.loads(SCHEMA.source)
    async with placed(cloud, BY_TOOL) as place:
        items = await collect(place, request(format=SCHEMA))
        assert place.schema_way("m") == "tool"
    assert json.loads(text_of(items)) == {"a": 1} and deltas(items)[-1].finish_reason == "stop"
    assert not any(delta.tool_calls for delta in deltas(items))
    assert last_body(cloud)["toolConfig"]["toolChoice"] == {"tool": {"name": "answer"}}


async def test_a_model_that_does_not_call_the_answering_tool_has_not_answered(cloud):
    cloud.script = Script(default=Answer("I would rather chat"))
    async with placed(cloud, BY_TOOL) as place:
        with pytest.raises(Unreachable, match="form"):
            await collect(place, request(format=SCHEMA))


@pytest.mark.parametrize(
    ("kind", "error", "status"),
    [("throttled", Throttled, 429), ("unavailable", Overloaded, 503), ("overloaded", Overloaded, 503),
     ("not_ready", Overloaded, 503), ("internal", Unreachable, 502), ("timeout", Unreachable, 502),
     ("unauthenticated", PlaceRefused, 502), ("denied", PlaceRefused, 502), ("not_found", NotFound, 404),
     ("invalid", BadRequest, 400), ("too_long", ContextTooLong, 400)],
)  # fmt: skip
async def test_a_refusal_is_typed_before_anything_is_said(cloud, kind, error, status):
    cloud.script = Script(default=Fault(kind))
    async with placed(cloud) as place:
        with pytest.raises(error) as refused:
            await collect(place, request())
        assert place.num_in_flight == 0
    assert type(refused.value) is error and refused.value.status == status and refused.value.fix


async def test_when_to_come_again_is_passed_on(cloud):
    cloud.script = Script(plays=(Fault("throttled", retry_after_s=7.0), Fault("throttled", "Too many tokens per day")))
    async with placed(cloud) as place:
        for seconds in (7.0, 3600.0):
            with pytest.raises(Throttled) as refused:
                await collect(place, request())
            assert refused.value.retry_after_s == seconds


IN_STREAM = [("throttled", Throttled), ("unavailable", Overloaded), ("timeout", Unreachable), ("invalid", BadRequest)]


@pytest.mark.parametrize(("kind", "error"), IN_STREAM)
async def test_an_exception_in_the_stream_is_typed_while_nothing_was_said(cloud, kind, error):
    cloud.script = Script(default=Answer("one two", fault_after=0, fault=Fault(kind)))
    async with placed(cloud) as place:
        with pytest.raises(error) as refused:
            await collect(place, request())
    assert type(refused.value) is error


@pytest.mark.parametrize("kind", [kind for kind, _ in IN_STREAM])
async def test_an_exception_after_the_first_word_is_a_broken_stream(kind):
    heard = asyncio.Event()

    async def until_heard(_seconds):
        await heard.wait()

    cloud = BedrockCloud(Script(default=Answer("one two three", token_s=1.0, fault_after=2, fault=Fault(kind))),
                         region=REGION, sleep=until_heard)  # fmt: skip
    async with cloud, placed(cloud) as place:
        items = []
        with pytest.raises(Unreachable, match="broke off") as broken:
            async for item in place.complete(request(), deadline()):
                items.append(item)
                if len(items) == 2:
                    heard.set()
    assert text_of(items[:2]) == "one " and type(broken.value) is Unreachable


@pytest.mark.parametrize("after", [0, 2])
async def test_a_connection_that_breaks_is_unreachable(cloud, after):
    cloud.script = Script(default=Answer("one two three", cut_after=after))
    async with placed(cloud) as place:
        with pytest.raises(Unreachable):
            await collect(place, request())
        assert place.num_in_flight == 0


async def test_nobody_listening_is_unreachable(cloud):
    async with placed(cloud) as place:
        await cloud.close()
        with pytest.raises(Unreachable):
            await collect(place, request())


async def test_silence_ends(cloud):
    cloud.script = Script(default=Answer("one two three", stall_after=1))
    async with placed(cloud, silence_s=0.05) as place:
        with pytest.raises(Unreachable, match="said nothing"):
            await collect(place, request())


async def test_a_stated_deadline_cuts_the_answer_or_refuses_it(cloud):
    cloud.script = Script(default=Answer("one two", stall_after=1))
    clock = SimulatedClock()
    lasting = cloud.gate.lasting
    auth = AwsAuth(REGION, credentials=Credentials(lasting.access_key, lasting.secret_key), environ={})
    until = Deadline.start(Budget(total_s=30.0), clock())
    async with opened(cloud, auth, clock=clock) as place:
        items = []
        async for item in place.complete(request(dated=True), until):
            items.append(item)
            if len(items) == 2:
                clock.advance(31.0)
        assert text_of(items) == "one " and deltas(items)[-1].ended_by == "deadline"
        assert deltas(items)[-1].finish_reason == "length"
        with pytest.raises(DeadlineExceeded):
            await collect(place, request(dated=True), until)


class WatchedCloud(BedrockCloud):
    """Says when a request is over."""

    def __init__(self, script):
        super().__init__(script, region=REGION)
        self.is_over = asyncio.Event()

    def _settle(self, place, state):
        super()._settle(place, state)
        self.is_over.set()


async def test_hanging_up_reaches_amazon():
    async with WatchedCloud(Script(default=Answer("one two three", stall_after=1))) as cloud, placed(cloud) as place:
        stream = place.complete(request(), deadline())
        while isinstance(await anext(stream), Prompted):
            pass
        assert place.num_in_flight == cloud.num_in_flight == 1
        await stream.aclose()
        assert place.num_in_flight == 0
        async with asyncio.timeout(30):
            await cloud.is_over.wait()
        assert cloud.seen[-1].state == "hung_up"


async def test_a_connection_is_used_again(cloud):
    async with placed(cloud) as place:
        for _ in range(3):
            await collect(place, request())
        pool = place._session.connector
        assert sum(len(held) for held in pool._conns.values()) == 1


async def test_a_filter_that_let_nothing_through_is_an_error_and_one_that_cut_is_a_reason(cloud):
    cloud.script = Script(plays=(Block(), Answer("one two", finish="filter", block_reason="guardrail_intervened")))
    async with placed(cloud) as place:
        with pytest.raises(ContentFiltered) as filtered:
            await collect(place, request())
        assert filtered.value.reason == "content_filtered"
        items = await collect(place, request())
    assert text_of(items) == "one two" and deltas(items)[-1].finish_reason == "content_filter"


async def test_a_malformed_answer_of_the_model_is_no_answer(cloud):
    cloud.script = Script(default=Answer("one", finish="filter", block_reason="malformed_tool_use"))
    async with placed(cloud) as place:
        with pytest.raises(Unreachable, match="malformed_tool_use"):
            await collect(place, request())


async def test_a_stop_string_is_named_and_a_limit_counts(cloud):
    cloud.script = Script(default=Answer("one two three four"))
    async with placed(cloud) as place:
        stopped = await collect(place, request(stops=("thr",)))
        cut = await collect(place, request(max_tokens=2))
    assert text_of(stopped) == "one two " and deltas(stopped)[-1].stopped_by == "thr"
    assert text_of(cut) == "one two " and deltas(cut)[-1].finish_reason == "length"


async def test_an_answer_is_gone_on_with(cloud):
    cloud.script = Script(default=Answer(" three"))
    async with placed(cloud) as place:
        assert place.continues == "roughly"
        items = await collect(place, request(partial=Partial("one two ", num_tokens=2), max_tokens=10))
    assert text_of(items) == "three"  # the space was said already
    body = last_body(cloud)
    assert body["messages"][-1] == {"role": "assistant", "content": [{"text": "one two"}]}
    assert body["inferenceConfig"]["maxTokens"] == 8


async def test_a_key_of_bedrock_is_a_bearer(cloud, monkeypatch, tmp_path):
    clear(monkeypatch, tmp_path)
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", cloud.gate.bearer)
    async with opened(cloud, None) as place:
        assert text_of(await collect(place, request()))
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "another")
    async with opened(cloud, None) as place:
        with pytest.raises(PlaceRefused, match="API Key"):
            await collect(place, request())
        assert "API Key" in place.status().why


async def test_credentials_that_expire_in_mid_run_are_found_anew(cloud, monkeypatch, tmp_path):
    clear(monkeypatch, tmp_path)
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{cloud.url}/credentials")
    cloud.script = Script(default=Answer("one two three"), credential_s=3600.0)
    auth = AwsAuth(REGION)
    async with opened(cloud, auth) as place:
        stream = place.complete(request(), deadline())
        while isinstance(await anext(stream), Prompted):
            pass
        cloud.gate.expire()  # long before they said they would
        rest = [item async for item in stream]
        assert rest[-1].finish_reason == "stop"
        assert auth.num_renewed == 1
        for _ in range(2):
            assert text_of(await collect(place, request())) == "one two three"
        assert auth.num_renewed == 2
    assert [seen.state for seen in cloud.seen] == ["answered", "refused", "answered", "answered"]


async def test_credentials_are_renewed_before_they_end(cloud, monkeypatch, tmp_path):
    clear(monkeypatch, tmp_path)
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{cloud.url}/credentials")
    cloud.script = Script(credential_s=30.0)
    auth = AwsAuth(REGION)
    async with opened(cloud, auth) as place:
        for _ in range(3):
            await collect(place, request())
    assert auth.num_renewed == 3 and {seen.state for seen in await cloud.settled()} == {"answered"}


async def test_keys_that_nobody_can_renew_are_refused_with_a_way_out(cloud, monkeypatch, tmp_path):
    clear(monkeypatch, tmp_path)
    session = cloud.gate.issue(3600.0)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", session.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", session.secret_key)
    monkeypatch.setenv("AWS_SESSION_TOKEN", session.token)
    cloud.gate.expire()
    async with opened(cloud, None) as place:
        with pytest.raises(PlaceRefused, match="expired") as refused:
            await collect(place, request())
    assert "Renew" in refused.value.fix and len(cloud.seen) == 1


@pytest.mark.parametrize("ahead_s", [-7200.0, 7200.0])
async def test_a_wrong_clock_is_corrected_by_amazons(ahead_s):
    now = 1_800_000_000.0
    async with BedrockCloud(region=REGION, now=lambda: now) as cloud:
        lasting = cloud.gate.lasting
        credentials = Credentials(lasting.access_key, lasting.secret_key)
        auth = AwsAuth(REGION, credentials=credentials, now=lambda: now + ahead_s)
        async with opened(cloud, auth) as place:
            for _ in range(2):
                assert text_of(await collect(place, request()))
        assert [seen.state for seen in cloud.seen] == ["refused", "answered", "answered"]


async def test_what_was_asked_of_amazon_beside_the_words(cloud):
    model = BedrockModel("m", MODEL, latency="optimized", tier="priority", fields={"anthropic_beta": ["x"]})
    metadata = {"run": "{run}", "who": "{tenant}!é", "app": "isochrone"}
    async with placed(cloud, model, metadata=metadata, guardrail=("g1", "2")) as place:
        await collect(place, request(run="run-7", pin_s=600.0))
        body = last_body(cloud)
        assert place.num_downgraded == 0
        cloud.downgrades = True
        await collect(place, request())
        assert place.num_downgraded == 1
    assert body["performanceConfig"] == {"latency": "optimized"} and body["serviceTier"] == {"type": "priority"}
    assert body["requestMetadata"] == {"run": "run-7", "who": "tenant__", "app": "isochrone"}
    assert body["guardrailConfig"] == {"guardrailIdentifier": "g1", "guardrailVersion": "2"}
    assert body["additionalModelRequestFields"] == {"anthropic_beta": ["x"]}
    assert body["messages"][-1]["content"][-1] == {"cachePoint": {"type": "default", "ttl": "1h"}}


async def test_an_unknown_model_is_not_found_and_tokens_are_amazons_secret(cloud):
    async with placed(cloud) as place:
        with pytest.raises(NotFound):
            await collect(place, type(request())("r", "other", "t", chat()))
        with pytest.raises(Unsupported):
            await place.tokenize(chat())


async def test_a_place_says_what_it_can(cloud):
    model = BedrockModel("m", "eu.meta.llama3-2-3b-instruct-v1:0", skills=Skills(tools=False))
    async with opened(cloud, AwsAuth(REGION, key="k"), BedrockSettings((model,), REGION, cloud.url)) as place:
        assert place.status().models[0].abilities == () and place.continues == "no"
        assert place.location == REGION and len(place.regions("m")) > 1
