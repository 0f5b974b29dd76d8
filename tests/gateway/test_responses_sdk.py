"""`/v1/responses` through the client that people use."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types.responses import Response
from pydantic import BaseModel

from isochrone.errors import ContextTooLong, Unreachable
from isochrone.ledger.reader import Reader
from isochrone.ledger.timelines import find
from isochrone.places.place import Chat, Delta, Format, Message, Scored, Tool, ToolCall, ToolChoice
from tests.gateway.conftest import Server
from tests.gateway.playing import DONE, MODEL, PlayingPlace, called, thought, words

WEATHER: dict[str, Any] = {
    "type": "function", "name": "weather", "strict": True,
    "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"],
        "additionalProperties": False,
    },
}  # fmt: skip
PATCH: dict[str, Any] = {"type": "custom", "name": "patch", "description": "Apply a patch"}


@pytest.fixture
def client(playing_server: Server, played: PlayingPlace) -> OpenAI:
    return playing_server.client()


def chat_of(place: PlayingPlace, at: int = -1) -> Chat:
    prompt = place.requests[at].prompt
    assert isinstance(prompt, Chat)
    return prompt


def test_a_text_is_answered_with_a_message_and_usage(client: OpenAI, played: PlayingPlace) -> None:
    response = client.responses.create(
        model=MODEL, input="Hi", instructions="Be kind.", max_output_tokens=9, temperature=0.5, metadata={"run": "1"}
    )
    assert response.output_text == "Hello there " and response.status == "completed"
    assert [item.type for item in response.output] == ["message"]
    assert response.usage is not None and response.usage.input_tokens_details.cached_tokens == 2
    assert (response.usage.input_tokens, response.usage.output_tokens, response.usage.total_tokens) == (7, 3, 10)
    assert response.metadata == {"run": "1"} and response.instructions == "Be kind." and response.error is None
    assert chat_of(played).messages == (Message("system", "Be kind."), Message("user", "Hi"))
    assert played.requests[0].max_tokens == 9 and played.requests[0].sampling.temperature == 0.5


def test_a_stream_tells_the_same_response_event_by_event(client: OpenAI, played: PlayingPlace) -> None:
    played.plays = [[*thought("let me see"), *words("It is late")]]
    events = list(client.responses.create(model=MODEL, input="Hi", stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type for event in events] == [
        "response.created", "response.in_progress",
        "response.output_item.added", "response.content_part.added",
        *["response.reasoning_text.delta"] * 3,
        "response.reasoning_text.done", "response.content_part.done", "response.output_item.done",
        "response.output_item.added", "response.content_part.added",
        *["response.output_text.delta"] * 3,
        "response.output_text.done", "response.content_part.done", "response.output_item.done",
        "response.completed",
    ]  # fmt: skip
    last: Any = events[-1]
    assert last.response.output_text == "It is late "
    assert last.response.output[0].content[0].text == "let me see "
    assert last.response.usage.output_tokens_details.reasoning_tokens == 3
    assert client.responses.retrieve(last.response.id) == last.response


def test_the_sdks_own_accumulation_agrees_with_the_last_event(client: OpenAI, played: PlayingPlace) -> None:
    played.plays = [[*thought("hm"), *words("One moment")[:-1], *called(0, "weather", '{"city":"Ulm"}'),
                     *called(1, "weather", '{"city":"Bonn"}'), *DONE]]  # fmt: skip
    with client.responses.stream(model=MODEL, input="Hi", tools=[WEATHER]) as stream:  # type: ignore[list-item]
        arguments = [e.snapshot for e in stream if e.type == "response.function_call_arguments.delta"]
        final = stream.get_final_response()
    assert arguments[-1] == '{"city":"Bonn"}'
    calls = [item for item in final.output if item.type == "function_call"]
    assert [call.parsed_arguments for call in calls] == [{"city": "Ulm"}, {"city": "Bonn"}]
    assert [call.call_id for call in calls] == ["call_0", "call_1"] and len({call.id for call in calls}) == 2


class Event(BaseModel):
    name: str
    day: int


def test_parse_sends_the_schema_and_gives_an_object(client: OpenAI, played: PlayingPlace) -> None:
    played.plays = [[Delta(0, '{"name":"fair","day":3}', 5, finish_reason="stop")]]
    response = client.responses.parse(model=MODEL, input="When?", text_format=Event)
    assert response.output_parsed == Event(name="fair", day=3)
    wanted = played.requests[0].format
    assert wanted is not None and wanted.kind == "json_schema"
    assert json.loads(wanted.source)["properties"].keys() == {"name", "day"}
    response = client.responses.create(model=MODEL, input="x", text={"format": {"type": "json_object"}})
    assert played.requests[1].format == Format("json_schema", '{"type":"object"}')
    assert response.text is not None and response.text.format is not None and response.text.format.type == "json_object"


def test_a_loop_of_tools_by_previous_response_id(client: OpenAI, played: PlayingPlace) -> None:
    played.plays = [[*called(0, "weather", '{"city":"Ulm"}'), *DONE], words("Sunny in Ulm")]
    first = client.responses.create(model=MODEL, input="Weather in Ulm?", tools=[WEATHER], instructions="Be brief.")
    (call,) = first.output
    assert call.type == "function_call" and call.status == "completed"
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "sun"}
    second = client.responses.create(model=MODEL, input=[output], previous_response_id=first.id)  # type: ignore[list-item]
    assert second.output_text == "Sunny in Ulm " and second.previous_response_id == first.id
    assert chat_of(played).messages == (
        Message("user", "Weather in Ulm?"),
        Message("assistant", "", tool_calls=(ToolCall("call_0", "weather", '{"city":"Ulm"}'),)),
        Message("tool", "sun", name="weather", tool_call_id="call_0"),
    )
    client.responses.create(model=MODEL, input="And now?", previous_response_id=second.id)
    assert [message.role for message in chat_of(played).messages] == ["user", "assistant", "tool", "assistant", "user"]


def test_the_same_loop_by_sending_everything_back(client: OpenAI, played: PlayingPlace) -> None:
    played.plays = [[*thought("hm"), *called(0, "weather", "{}"), *called(1, "weather", "[]"), *DONE], words("Fine")]
    items: list[Any] = [{"role": "user", "content": "Weather?"}]
    first = client.responses.create(
        model=MODEL, input=items, tools=[WEATHER], store=False, include=["reasoning.encrypted_content"]
    )
    items += first.output
    items += [{"type": "function_call_output", "call_id": f"call_{i}", "output": f"{i}"} for i in range(2)]
    client.responses.create(model=MODEL, input=items, store=False)
    assert chat_of(played).messages[1:] == (
        Message(
            "assistant", "", reasoning="hm ",
            tool_calls=(ToolCall("call_0", "weather", "{}"), ToolCall("call_1", "weather", "[]")),
        ),
        Message("tool", "0", name="weather", tool_call_id="call_0"),
        Message("tool", "1", name="weather", tool_call_id="call_1"),
    )  # fmt: skip
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)


def test_references_stand_for_stored_items(client: OpenAI, played: PlayingPlace) -> None:
    first = client.responses.create(model=MODEL, input="Hi")
    reference = {"type": "item_reference", "id": first.output[0].id}
    client.responses.create(model=MODEL, input=[reference, {"role": "user", "content": "Go on"}])  # type: ignore[list-item]
    assert [message.content for message in chat_of(played).messages] == ["Hello there ", "Go on"]
    with pytest.raises(openai.BadRequestError, match="There is no item"):
        client.responses.create(model=MODEL, input=[{"type": "item_reference", "id": "msg_unknown_0"}])


def test_a_custom_tool_takes_and_gives_plain_text(client: OpenAI, played: PlayingPlace) -> None:
    text = '*** Begin\n+"x"'
    played.plays = [[*called(0, "patch", json.dumps({"input": text})), *DONE], words("Done")]
    with client.responses.stream(model=MODEL, input="Fix it", tools=[PATCH]) as stream:  # type: ignore[list-item]
        deltas = [event.delta for event in stream if event.type == "response.custom_tool_call_input.delta"]
        (call,) = stream.get_final_response().output
    assert call.type == "custom_tool_call" and call.input == text == "".join(deltas)
    client.responses.create(
        model=MODEL,
        input=[
            {"type": "custom_tool_call", "call_id": call.call_id, "name": "patch", "input": text},
            {"type": "custom_tool_call_output", "call_id": call.call_id, "output": "ok"},
        ],
    )
    assistant, result = chat_of(played).messages
    assert json.loads(assistant.tool_calls[0].arguments) == {"input": text} and result.content == "ok"


def test_a_tool_of_a_namespace_keeps_its_two_names(client: OpenAI, played: PlayingPlace) -> None:
    played.plays = [[*called(0, "files__read", "{}"), *DONE]]
    space: Any = {
        "type": "namespace", "name": "files", "description": "Files",
        "tools": [{"type": "function", "name": "read", "parameters": {}}],
    }  # fmt: skip
    (call,) = client.responses.create(model=MODEL, input="x", tools=[space]).output
    assert call.type == "function_call" and (call.namespace, call.name) == ("files", "read")
    assert chat_of(played).tools == (Tool("files__read", "", {}),)


def test_what_codex_sends_is_answered(client: OpenAI, played: PlayingPlace) -> None:
    """Codex offers hosted tools, asks for encrypted reasoning and a summary, and stores nothing."""
    tools: Any = [WEATHER, {"type": "web_search", "external_web_access": False}, {"type": "image_generation"}]
    extra = {"client_metadata": {"installation": "x"}}
    response = client.responses.create(
        model=MODEL, instructions="You are an agent.", tools=tools, tool_choice="auto", parallel_tool_calls=False,
        reasoning={"effort": "medium", "summary": "auto"}, store=False, include=["reasoning.encrypted_content"],
        prompt_cache_key="thread", extra_body=extra, text={"verbosity": "medium"},
        input=[
            {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "sandbox"}]},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "fix"}]},
            {"type": "web_search_call", "id": "ws", "status": "completed", "action": {"type": "search", "query": "q"}},
        ],
    )  # fmt: skip
    assert response.output_text == "Hello there "
    assert [tool.type for tool in response.tools] == ["function"]
    assert response.to_dict()["isochrone"] == {"tools_left_out": ["web_search", "image_generation"]}
    chat = chat_of(played)
    assert chat.messages == (Message("system", "You are an agent.\n\nsandbox"), Message("user", "fix"))
    assert not chat.parallel_tool_calls and chat.template_variables["reasoning_effort"] == "medium"


@pytest.mark.parametrize(
    ("choice", "mode", "name", "offered"),
    [
        ("auto", "auto", None, 2),
        ("required", "required", None, 2),
        ("none", "none", None, 2),
        ({"type": "function", "name": "weather"}, "required", "weather", 2),
        ({"type": "allowed_tools", "mode": "required", "tools": [{"type": "custom", "name": "patch"}]},
         "required", None, 1),
    ],
)  # fmt: skip
def test_every_choice_of_tools_is_passed_on(
    client: OpenAI, played: PlayingPlace, choice: Any, mode: Any, name: str | None, offered: int
) -> None:
    response = client.responses.create(model=MODEL, input="x", tools=[WEATHER, PATCH], tool_choice=choice)  # type: ignore[list-item]
    assert chat_of(played).tool_choice == ToolChoice(mode, name) and len(chat_of(played).tools) == offered
    assert len(response.tools) == 2


def test_scores_come_with_the_text(client: OpenAI, played: PlayingPlace) -> None:
    scored = (Scored("Hi", b"Hi", -0.5, (("Hi", b"Hi", -0.5), ("Ho", b"Ho", -1.5))),)
    played.plays = [[Delta(0, "Hi", 1, scored), Delta(0, "", 1, finish_reason="stop")]]
    response = client.responses.create(
        model=MODEL, input="x", top_logprobs=2, include=["message.output_text.logprobs"]
    )
    message: Any = response.output[0]
    assert message.content[0].logprobs[0].top_logprobs[1].token == "Ho" and played.requests[0].num_top == 2
    events: Any = client.responses.create(model=MODEL, input="x", top_logprobs=2, stream=True)
    deltas = [event for event in events if event.type == "response.output_text.delta"]
    assert deltas[0].logprobs[0].logprob == -0.5


def test_an_answer_that_was_cut_is_incomplete_and_says_by_what(client: OpenAI, played: PlayingPlace) -> None:
    played.plays = [words("One two", reason="length")]
    response = client.responses.create(model=MODEL, input="x")
    assert response.status == "incomplete" and response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    played.plays = [[Delta(0, "One", 1), Delta(0, "", 0, finish_reason="length", ended_by="deadline")]]
    with client.responses.stream(model=MODEL, input="x") as stream:
        last: Any = list(stream)[-1]
    assert last.type == "response.incomplete" and last.response.to_dict()["isochrone"] == {"ended_by": "deadline"}


def test_an_empty_answer_is_an_empty_text(client: OpenAI, played: PlayingPlace) -> None:
    played.plays = [[Delta(0, "", 1, finish_reason="stop")]]
    response = client.responses.create(model=MODEL, input="x")
    assert response.output_text == "" and [item.type for item in response.output] == ["message"]


def test_what_the_place_refuses_is_a_status(client: OpenAI, played: PlayingPlace) -> None:
    for stream in (False, True):
        played.plays = [[ContextTooLong("It is too long.", fix="Shorten it.")]]
        with pytest.raises(openai.BadRequestError) as caught:
            client.responses.create(model=MODEL, input="x", stream=stream)
        assert caught.value.code == "context_length_exceeded"


def test_a_failure_in_mid_stream_is_the_last_event_and_kept(client: OpenAI, played: PlayingPlace) -> None:
    played.plays = [[Delta(0, "One", 1), Unreachable("The engine died.", fix="Ask again.")]]
    events: list[Any] = list(client.responses.create(model=MODEL, input="x", stream=True))
    assert [event.type for event in events[-4:]] == [
        "response.output_text.done", "response.content_part.done", "response.output_item.done", "response.failed",
    ]  # fmt: skip
    failed: Response = events[-1].response
    assert failed.error is not None and failed.error.message == "The engine died. Ask again."
    assert client.responses.retrieve(failed.id).status == "failed"
    with pytest.raises(openai.APIStatusError, match="The engine died"):
        client.responses.create(model=MODEL, input="x")


def test_padded_deltas_differ_little_in_size(playing_server: Server, played: PlayingPlace) -> None:
    played.plays = [words("a bb ccc dddd eeeee ffffff")]
    body = {"model": MODEL, "input": "x", "stream": True, "stream_options": {"include_obfuscation": True}}
    _, _, text = playing_server.send("POST", "/v1/responses", body)
    sizes = {len(event) + 2 for event in text.split(b"\n\n") if b"output_text.delta" in event}
    assert sizes and all(size % 64 == 0 for size in sizes)
    assert text.rstrip().splitlines()[-2] == b"event: response.completed"


def test_input_items_are_listed_in_pages(client: OpenAI) -> None:
    items: Any = [{"role": "user", "content": str(number)} for number in range(5)]
    response = client.responses.create(model=MODEL, input=items)
    pages = client.responses.input_items.list(response.id, limit=2, order="asc")
    listed: list[Any] = list(pages)
    assert [item.content[0].text for item in listed] == ["0", "1", "2", "3", "4"] and listed[0].role == "user"
    newest: Any = client.responses.input_items.list(response.id, limit=1).data
    assert newest[0].id == listed[-1].id
    with pytest.raises(openai.BadRequestError, match="limit"):
        client.responses.input_items.list(response.id, limit=1000)


def test_a_deleted_response_is_gone_and_so_is_what_follows_from_it(client: OpenAI) -> None:
    response = client.responses.create(model=MODEL, input="x")
    client.responses.delete(response.id)
    for ask in (client.responses.retrieve, client.responses.delete, client.responses.cancel):
        with pytest.raises(openai.NotFoundError):
            ask(response.id)
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model=MODEL, input="y", previous_response_id=response.id)
    assert caught.value.param == "previous_response_id"


def test_streaming_a_kept_response_is_refused_by_name(client: OpenAI) -> None:
    response = client.responses.create(model=MODEL, input="x")
    with pytest.raises(openai.BadRequestError, match="stream is not supported"):
        client.responses.retrieve(response.id, stream=True)


def test_a_background_response_is_fetched_when_it_has_ended(
    client: OpenAI, playing_server: Server, played: PlayingPlace
) -> None:
    gate = asyncio.Event()
    played.plays = [[Delta(0, "One ", 1), gate, *words("two")]]
    response = client.responses.create(model=MODEL, input="x", background=True)
    assert response.status == "queued" and response.background and response.output == []
    playing_server.wait_until(lambda: played.num_open == 1)
    running = client.responses.retrieve(response.id)
    assert running.status in ("queued", "in_progress") and running.usage is None
    with pytest.raises(openai.BadRequestError, match="has not ended"):
        client.responses.create(model=MODEL, input="y", previous_response_id=response.id)
    playing_server.call(gate.set)
    playing_server.wait_until(lambda: played.num_open == 0)
    ended = client.responses.retrieve(response.id)
    assert ended.status == "completed" and ended.output_text == "One two "


def test_a_background_response_can_be_cancelled_and_stays_cancelled(
    client: OpenAI, playing_server: Server, played: PlayingPlace
) -> None:
    played.plays = [[Delta(0, "One ", 1), asyncio.Event()]]
    response = client.responses.create(model=MODEL, input="x", background=True)
    playing_server.wait_until(lambda: played.num_open == 1)
    for _ in range(2):
        assert client.responses.cancel(response.id).status == "cancelled"
    assert played.num_open == 0 and client.responses.retrieve(response.id).status == "cancelled"


def test_what_ran_in_the_background_has_a_timeline(
    client: OpenAI, playing_server: Server, played: PlayingPlace
) -> None:
    headers = {"x-request-id": "mine"}
    client.responses.create(model=MODEL, input="x", background=True, extra_headers=headers)
    reader = Reader(playing_server.ledger.path)
    playing_server.wait_until(lambda: bool(find(reader, "mine")))
    (timeline,) = find(reader, "mine")
    reader.close()
    assert (timeline.route, timeline.status, timeline.num_answer) == ("/v1/responses", 200, 3)


def test_deleting_a_response_that_is_being_written_ends_it(
    client: OpenAI, playing_server: Server, played: PlayingPlace
) -> None:
    played.plays = [[Delta(0, "One ", 1), asyncio.Event()]]
    response = client.responses.create(model=MODEL, input="x", background=True)
    client.responses.delete(response.id)
    assert played.num_open == 0
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response.id)


def test_a_stream_can_be_cancelled_by_its_id(client: OpenAI, playing_server: Server, played: PlayingPlace) -> None:
    played.plays = [[Delta(0, "One ", 1), asyncio.Event()]]
    events = iter(client.responses.create(model=MODEL, input="x", stream=True))
    first: Any = next(events)
    assert client.responses.cancel(first.response.id).status == "cancelled"
    last: Any = list(events)[-1]
    assert last.type == "response.incomplete" and last.response.status == "cancelled"
    assert last.response.output_text == "One "


def test_what_has_ended_cannot_be_cancelled(client: OpenAI) -> None:
    response = client.responses.create(model=MODEL, input="x")
    with pytest.raises(openai.BadRequestError, match="has ended"):
        client.responses.cancel(response.id)


def test_input_tokens_are_counted_without_an_answer(client: OpenAI, played: PlayingPlace) -> None:
    counted = client.responses.input_tokens.count(model=MODEL, input="one two three", instructions="four")
    assert counted.input_tokens == 4 and played.requests == []
