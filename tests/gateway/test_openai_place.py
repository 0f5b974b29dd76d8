"""The place that speaks OpenAI's API, against our own server and against what other servers put on the wire."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from isochrone.budget import Budget, Deadline
from isochrone.errors import (
    BadConfig,
    BadRequest,
    ContextTooLong,
    DeadlineExceeded,
    NotFound,
    Overloaded,
    PlaceRefused,
    Throttled,
    Unreachable,
    Unsupported,
)
from isochrone.places.openai_place import OpenAIPlace, from_spec
from isochrone.places.place import (
    Chat,
    Delta,
    Format,
    Message,
    Partial,
    Prompted,
    Request,
    Sampling,
    Text,
    TokenIds,
    Tool,
    ToolCall,
    ToolChoice,
    Usage,
)
from isochrone.places.spec import ModelSpec, PlaceSpec
from tests.gateway.conftest import MODEL, Server
from tests.gateway.playing import DONE, PlayingPlace, called, thought, words
from tests.places.canned import Canned, CannedServer, canned, chunk, events

CHAT = Chat((Message("user", "dog"),))
PATH = "/v1/chat/completions"


def ask(prompt: Any = CHAT, **options: Any) -> Request:
    return Request("r", options.pop("model", MODEL), "t", prompt, **options)


def within(seconds: float | None = None) -> Deadline:
    return Deadline.start(Budget(total_s=seconds), time.monotonic())


async def answered(place: OpenAIPlace, request: Request, deadline: Deadline | None = None) -> list[Prompted | Delta]:
    async with aclosing(place.complete(request, deadline or within())) as answer:
        return [event async for event in answer]


def said(events: list[Prompted | Delta]) -> str:
    return "".join(event.text for event in events)


@pytest.fixture
async def ours(server: Server) -> AsyncIterator[OpenAIPlace]:
    place = OpenAIPlace("ours", f"{server.url}/v1")
    await place.start()
    yield place
    await place.close()


@pytest.fixture
async def playing(playing_server: Server, played: PlayingPlace) -> AsyncIterator[OpenAIPlace]:
    place = OpenAIPlace("playing", f"{playing_server.url}/v1", flavour="isochrone")
    yield place
    await place.close()


@pytest.fixture
async def there() -> AsyncIterator[CannedServer]:
    async with canned() as server:
        yield server


async def at(server: CannedServer, flavour: str = "vllm", **options: Any) -> OpenAIPlace:
    return OpenAIPlace("there", f"{server.root}/v1", flavour=flavour, **options)


# Against our own server.


async def test_our_own_server_is_known_by_what_it_lists(ours: OpenAIPlace) -> None:
    status = ours.status()
    assert (ours.flavour, status.state, ours.continues) == ("isochrone", "ready", "no")
    assert [(model.id, model.context) for model in status.models] == [(MODEL, 512)]
    assert "prefill" not in status.models[0].abilities


@pytest.mark.parametrize("prompt", [CHAT, Text("The quick brown fox"), TokenIds((40, 41, 42))])
async def test_our_own_server_answers_chats_texts_and_tokens(server: Server, ours: OpenAIPlace, prompt: Any) -> None:
    request = ask(prompt, max_tokens=6, num_top=1, n=2)
    here = asyncio.run_coroutine_threadsafe(answered(server.place, request), server.loop).result(10)  # type: ignore[arg-type]
    got = await answered(ours, request)
    for index in (0, 1):
        mine, theirs = ([e for e in out if isinstance(e, Delta) and e.index == index] for out in (got, here))
        assert "".join(e.text for e in mine) == "".join(e.text for e in theirs) != ""
        scores = [[(s.raw, s.logprob) for e in out for s in e.scored] for out in (mine, theirs)]
        assert [score for _, score in scores[0]] == [score for _, score in scores[1]] == [-1.0] * 6
        assert mine[-1].finish_reason == "length"
    assert isinstance(got[-1], Delta) and got[-1].usage is not None and got[-1].usage.num_answer == 12


async def test_thoughts_calls_formats_and_penalties_pass_through_our_server(
    playing: OpenAIPlace, played: PlayingPlace
) -> None:
    played.plays = [[*thought("hm hm"), *called(0, "f", '{"a": 1}'), *called(1, "g", "{}"), *DONE]]
    turns = (
        Message("system", "be"), Message("user", "x"),
        Message("assistant", "", tool_calls=(ToolCall("c", "f", "{}"),), reasoning="so"),
        Message("tool", "rain", "f", tool_call_id="c"),
    )  # fmt: skip
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    request = ask(
        Chat(turns, tools=(Tool("f", "does", schema), Tool("g", parameters={"type": "object", "properties": {}})),
             tool_choice=ToolChoice("required", "f"), parallel_tool_calls=False,
             template_variables={"enable_thinking": True}),
        max_tokens=7, stops=("\n", "日本"), stop_token_ids=(9,), ignore_eos=True,
        sampling=Sampling(0.5, 3, 0.9, 0.1, 1.1, 0.2, 0.3, {7: -1.5}, 11),
        format=Format("json_schema", json.dumps(schema)),
    )  # fmt: skip
    got = await answered(playing, request)
    assert "".join(e.reasoning for e in got if isinstance(e, Delta)) == "hm hm "
    calls = [call for e in got if isinstance(e, Delta) for call in e.tool_calls]
    assert [(c.index, c.id, c.name) for c in calls if c.name] == [(0, "call_0", "f"), (1, "call_1", "g")]
    assert isinstance(got[-1], Delta) and got[-1].finish_reason == "tool_calls"
    (read,) = played.requests
    for name in ("prompt", "max_tokens", "stops", "stop_token_ids", "ignore_eos", "sampling"):
        assert getattr(read, name) == getattr(request, name), name
    assert read.format is not None and json.loads(read.format.source) == schema


@pytest.mark.parametrize(("kind", "source"), [("regex", "a+"), ("lark", 'start: "a"')])
async def test_other_grammars_pass_where_the_server_takes_them(
    playing: OpenAIPlace, played: PlayingPlace, kind: Any, source: str
) -> None:
    await answered(playing, ask(format=Format(kind, source)))
    assert played.requests[0].format == Format(kind, source)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ContextTooLong("It has a context length.", fix="Shorten."), ContextTooLong),
        (Overloaded("Full.", fix="Wait.", retry_after_s=2.5), Overloaded),
        (BadRequest("Wrong.", fix="Correct it.", param="tools"), BadRequest),
    ],
)
async def test_what_our_server_refuses_has_a_type(
    playing: OpenAIPlace, played: PlayingPlace, error: Any, kind: Any
) -> None:
    played.plays = [[error]]
    with pytest.raises(kind) as caught:
        await answered(playing, ask())
    assert getattr(caught.value, "retry_after_s", None) == getattr(error, "retry_after_s", None)
    assert getattr(caught.value, "param", None) == getattr(error, "param", None)


async def test_hanging_up_gives_the_slot_back(server: Server, ours: OpenAIPlace) -> None:
    answer = ours.complete(ask(max_tokens=400), within())
    async for event in answer:
        if isinstance(event, Delta):
            break
    assert server.engine.num_open == 1 and ours.num_in_flight == 1
    await answer.aclose()
    await asyncio.to_thread(server.wait_until, lambda: server.engine.num_open == 0)
    assert ours.num_in_flight == 0


async def test_connections_are_kept(playing: OpenAIPlace, played: PlayingPlace) -> None:
    played.plays = [words("a b")]
    await answered(playing, ask())
    first = playing.connect_took_s
    for _ in range(3):
        await answered(playing, ask())
    assert first is not None and playing.connect_took_s == first


async def test_the_load_of_our_own_server_is_read(ours: OpenAIPlace) -> None:
    await ours.read_load()
    assert ours._load is not None and ours.status().load.num_running == 0


# Against what other servers say.


async def test_a_server_that_does_not_stream_is_understood(there: CannedServer) -> None:
    message = {"role": "assistant", "content": "Hi", "reasoning": "hm"}
    body = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 1}}  # fmt: skip
    there.pages[PATH] = Canned(json.dumps(body).encode(), headers={"content-type": "application/json"})
    place = await at(there)
    first, delta, last = await answered(place, ask())
    assert isinstance(first, Prompted) and isinstance(delta, Delta) and (delta.text, delta.reasoning) == ("Hi", "hm")
    assert isinstance(last, Delta) and (last.usage, last.finish_reason) == (Usage(3, 1), "stop")
    there.pages[PATH].body = b'{"error": {"message": "no", "code": 503}}'
    with pytest.raises(Overloaded):
        await answered(place, ask())
    await place.close()


async def test_the_key_and_the_upstream_name_are_sent(there: CannedServer) -> None:
    there.pages[PATH] = Canned(events(chunk({"content": "a"}, reason="stop")))
    place = await at(there, key="secret", models=(ModelSpec("small", "org/model-1", quality=0.5),))
    assert place.status().state == "ready" and place.status().models[0].quality == 0.5
    await answered(place, ask(model="small"))
    assert there.asked[0][1]["model"] == "org/model-1" and there.keys == ["bearer secret"]
    await place.close()


@pytest.mark.parametrize(
    ("flavour", "members"),
    [
        ("vllm", {"continue_final_message": True, "add_generation_prompt": False, "max_tokens": 6}),
        ("sglang", {"continue_final_message": True, "add_generation_prompt": False, "max_tokens": 6}),
        ("llamacpp", {"max_tokens": 6}),
    ],
)
async def test_an_answer_goes_on_roughly_where_the_server_can(
    there: CannedServer, flavour: str, members: dict[str, Any]
) -> None:
    again = "Two rivers" if flavour == "llamacpp" else ""
    there.pages[PATH] = Canned(events(chunk({"content": f"{again} are"}), chunk(reason="stop")))
    place = await at(there, flavour)
    got = await answered(place, ask(partial=Partial("Two rivers", ids=(1, 2, 3)), max_tokens=9))
    body = there.asked[0][1]
    assert place.continues == "roughly" and said(got[1:]) == " are"  # type: ignore[arg-type]
    assert body["messages"][-1] == {"role": "assistant", "content": "Two rivers"}
    assert {name: body[name] for name in members} == members
    await place.close()


@pytest.mark.parametrize(
    ("flavour", "request_", "param"),
    [
        ("openai", ask(partial=Partial("a")), "partial"),
        ("openai", ask(sampling=Sampling(top_k=3)), "top_k"),
        ("openai", ask(Text("a")), "prompt"),
        ("plain", ask(TokenIds((1,))), "prompt"),
        ("sglang", ask(format=Format("lark", "start: /a/")), "response_format"),
        ("llamacpp", ask(stop_token_ids=(1,)), "stop_token_ids"),
        ("ollama", ask(Chat(CHAT.messages, template_variables={"a": 1})), "chat_template_kwargs"),
        ("vllm", ask(partial=Partial("a", "thought")), "partial"),
        ("vllm", ask(Text("a"), echo=True, num_top=0), "echo"),
    ],
)
async def test_what_a_server_does_not_take_is_refused_by_name_and_not_left_out(
    there: CannedServer, flavour: str, request_: Request, param: str
) -> None:
    place = await at(there, flavour)
    with pytest.raises(Unsupported, match=param):  # which asks another place, where there is one
        await answered(place, request_)
    assert not there.asked
    await place.close()


async def test_what_is_left_of_an_answer_is_reckoned_in_the_tokens_that_were_counted(there: CannedServer) -> None:
    there.pages[PATH] = Canned(events(chunk({"content": "a"}, reason="stop")))
    place = await at(there, "vllm")
    await answered(place, ask(max_tokens=9, partial=Partial("a b c d e f g", num_tokens=7)))
    assert there.asked[0][1]["max_tokens"] == 2
    await place.close()


async def test_a_provider_names_the_limit_of_an_answer_its_own_way(there: CannedServer) -> None:
    there.pages[PATH] = Canned(events(chunk({"content": "a"}, reason="stop")))
    place = await at(there, "openai")
    await answered(place, ask(max_tokens=9))
    assert there.asked[0][1]["max_completion_tokens"] == 9 and "max_tokens" not in there.asked[0][1]
    await place.close()


async def test_quotas_refusals_and_their_pauses_are_noted(there: CannedServer) -> None:
    quota = {"x-ratelimit-limit-requests": "100", "x-ratelimit-remaining-requests": "20"}
    there.pages[PATH] = Canned(events(chunk({"content": "a"}, reason="stop")), headers=quota)
    place = await at(there)
    await answered(place, ask())
    assert place.status().load.headroom == 0.2
    for status, kind in ((429, Throttled), (401, PlaceRefused), (404, NotFound), (500, Unreachable)):
        there.pages[PATH] = Canned(b'{"error": {"message": "no"}}', status, {"retry-after": "4"})
        with pytest.raises(kind) as caught:
            await answered(place, ask())
        assert getattr(caught.value, "retry_after_s", 4.0) == 4.0
    assert there.num_connections == 1, "refusals leave the connection as it was"
    await place.close()


async def test_a_death_in_mid_stream_is_unreachable_after_what_was_said(there: CannedServer) -> None:
    there.pages[PATH] = Canned(events(chunk({"content": "a"}), end=b""), dies=True)
    place, got = await at(there), []
    with pytest.raises(Unreachable, match="broke off"):
        async with aclosing(place.complete(ask(), within())) as answer:
            async for event in answer:
                got.append(event)
    assert said(got[1:]) == "a" and place.num_in_flight == 0
    await place.close()


async def test_hanging_up_closes_the_connection(there: CannedServer) -> None:
    there.pages[PATH] = Canned(events(chunk({"content": "a"}), end=b""), holds=asyncio.Event())
    place = await at(there)
    answer = place.complete(ask(), within())
    assert isinstance(await anext(answer), Prompted) and isinstance(await anext(answer), Delta)
    await answer.aclose()
    async with asyncio.timeout(10):
        await there.gone.wait()
    await place.close()


async def test_an_answer_that_lost_only_its_count_is_whole(there: CannedServer) -> None:
    there.pages[PATH] = Canned(events(chunk({"content": "a"}), chunk({}, reason="stop"), end=b""), dies=True)
    place = await at(there)
    got = await answered(place, ask())
    assert said(got[1:]) == "a" and got[-1].finish_reason == "stop"
    await place.close()


async def test_a_stated_deadline_refuses_before_the_first_word_and_cuts_after_it(there: CannedServer) -> None:
    place = await at(there)
    with pytest.raises(DeadlineExceeded, match="before the place was asked"):
        await answered(place, ask(dated=True), within(0.0))
    there.pages[PATH] = Canned(b": wait\n\n", holds=asyncio.Event())
    with pytest.raises(DeadlineExceeded, match="when the time was over"):
        await answered(place, ask(dated=True), within(0.05))
    there.pages[PATH] = Canned(events(chunk({"content": "a"}), end=b""), holds=asyncio.Event())
    last = (await answered(place, ask(dated=True), within(0.5)))[-1]
    assert isinstance(last, Delta) and (last.finish_reason, last.ended_by) == ("length", "deadline")
    await place.close()


async def test_a_server_that_is_not_there_says_so_and_comes_back(there: CannedServer) -> None:
    place = OpenAIPlace("there", "http://127.0.0.1:9/v1")
    await place.list_models()
    assert place.status().state == "failed" and "there does not answer" in place.status().why
    with pytest.raises(Unreachable):
        await answered(place, ask())
    await place.close()
    place = OpenAIPlace("there", f"{there.root}/v1")
    await place.list_models()
    assert place.status().state == "failed" and "404" in place.status().why
    listed = {"data": [{"id": "m", "owned_by": "vllm", "max_model_len": 4096, "created": 1}]}
    there.pages["/v1/models"] = Canned(json.dumps(listed).encode())
    there.pages["/metrics"] = Canned(b'vllm:num_requests_running{a="b"} 3\nvllm:num_requests_waiting{a="b"} 1\n')
    await place.start()
    status = place.status()
    assert (place.flavour, status.state, status.load.num_running, status.load.num_waiting) == ("vllm", "ready", 3, 1)
    assert [(model.id, model.context) for model in status.models] == [("m", 4096)]
    await place.close()


def test_a_server_is_built_from_what_the_fleet_file_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "k")
    spec = PlaceSpec("x", "openai", "http://127.0.0.1:9/v1", "KEY", "eu-west-1", options={"flavour": "sglang"})
    place = from_spec(spec)
    assert (place.flavour, place.location, place.continues) == ("sglang", "eu-west-1", "roughly")
    with pytest.raises(BadConfig, match="flavour"):
        from_spec(PlaceSpec("x", "openai", options={"flavour": "salty"}))
