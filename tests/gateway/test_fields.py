"""Bodies: every documented field is honoured or refused by name, and every broken body gets a sentence."""

from __future__ import annotations

import json
from typing import Any, get_type_hints

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from openai.types import completion_create_params as completion_documented
from openai.types.chat import completion_create_params as chat_documented

from isochrone.errors import BadRequest
from isochrone.gateway import openai_chat, openai_completions
from isochrone.gateway import openai_tables as tables
from isochrone.gateway.chunks import ChunkFrame
from isochrone.gateway.limits import Limits
from isochrone.gateway.openai_tables import OWN
from isochrone.places.place import Chat, Delta, Message, Request, Scored, Text, TokenIds

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
COMPLETION: dict[str, Any] = {"model": "m", "prompt": "hi"}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def chat(body: dict[str, Any]) -> Request:
    fields = openai_chat.PARSER.parse(json.dumps(body).encode())
    return openai_chat.to_request(fields, id="r", tenant="local", limits=Limits())


def completion(body: dict[str, Any]) -> list[Request]:
    fields = openai_completions.PARSER.parse(json.dumps(body).encode())
    return openai_completions.to_requests(fields, id="r", tenant="local", limits=Limits())


@pytest.mark.parametrize(
    ("documented", "ours"),
    [
        (chat_documented.CompletionCreateParamsBase, openai_chat.ChatFields),
        (completion_documented.CompletionCreateParamsBase, openai_completions.CompletionFields),
    ],
)
def test_every_field_that_openai_documents_is_known(documented: type, ours: Any) -> None:
    assert set(documented.__annotations__) | {"stream"} <= set(ours.__struct_fields__)


@pytest.mark.parametrize(
    ("ours", "tables", "refused"),
    [
        (openai_chat.ChatFields, (tables.CHAT, tables.CHAT_ACCEPTED, tables.CHAT_OWN), openai_chat.REFUSED),
        (
            openai_completions.CompletionFields,
            (tables.COMPLETIONS, tables.COMPLETIONS_ACCEPTED, tables.COMPLETIONS_OWN),
            openai_completions.REFUSED,
        ),
    ],
)
def test_each_field_is_in_one_table_and_the_tables_have_no_other(ours: Any, tables: Any, refused: Any) -> None:
    names = [name for table in (*tables, OWN, refused) for name in table]
    assert sorted(names) == sorted(ours.__struct_fields__)


@pytest.mark.parametrize("name", sorted(openai_chat.REFUSED))
def test_what_is_not_offered_is_refused_by_name_unless_it_asks_for_nothing(name: str) -> None:
    neutral, _ = openai_chat.REFUSED[name]
    for value in (None, *neutral):
        chat(CHAT | {name: value})
    with pytest.raises(BadRequest, match=f"{name} is not supported") as caught:
        chat(CHAT | {name: {"type": "something"}})
    assert caught.value.param == name


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("temperature", 3, "temperature must be at most 2."),
        ("temperature", "hot", "temperature must be a number, but it is a text."),
        ("top_p", -1, "top_p must be at least 0."),
        ("n", 0, "n must be at least 1."),
        ("n", True, "n must be a whole number, but it is true or false."),
        ("max_tokens", 1.5, "max_tokens must be a whole number, but it is a number."),
        ("logit_bias", {"5": 101}, "logit_bias[...] must be at most 100."),
        ("logit_bias", {"a": 1}, "logit_bias has a key that cannot be one of its own."),
        ("stop", [""], "stop[0] must have at least 1 character."),
        ("stop", ["a"] * 17, "stop must have at most 16 items."),
        ("temprature", 1, "There is no field 'temprature'."),
        ("messages", [], "messages must have at least 1 item."),
        ("messages", [{"content": "x"}], "The field messages[0].role is missing."),
        ("messages", [{"role": "king", "content": "x"}], "messages[0].role cannot be 'king'."),
        ("messages", [{"role": "user"}], "messages[0] has no content."),
        ("messages", [{"role": "tool", "content": "x"}], "messages[0] has the role tool, but no tool_call_id"),
        ("stream_options", {"include_usage": True}, "stream_options is given, but stream is not true."),
        ("top_logprobs", 3, "top_logprobs is given, but logprobs is not true."),
    ],
)
def test_a_wrong_field_is_said_in_words(field: str, value: Any, message: str) -> None:
    with pytest.raises(BadRequest) as caught:
        chat(CHAT | {field: value})
    assert caught.value.message.startswith(message)
    assert caught.value.param is not None and caught.value.param.startswith(field[:4])


def test_a_misspelt_field_is_told_its_name() -> None:
    with pytest.raises(BadRequest, match="Did you mean temperature"):
        chat(CHAT | {"temprature": 1})


def test_what_only_a_model_with_eyes_reads_is_refused() -> None:
    part = {"type": "image_url", "image_url": {"url": "https://example.org/x.png"}}
    with pytest.raises(BadRequest, match="image_url") as caught:
        chat(CHAT | {"messages": [{"role": "user", "content": [part]}]})
    assert caught.value.param == "messages[0].content[0].type"


def test_content_parts_are_one_text_and_developer_is_system() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    request = chat(CHAT | {"messages": [{"role": "developer", "content": parts, "name": "me"}]})
    assert request.prompt == Chat((Message("system", "ab", "me"),))


def test_defaults_are_those_that_openai_documents() -> None:
    assert chat(CHAT).max_tokens is None and completion(COMPLETION)[0].max_tokens == 16
    assert chat(CHAT | {"max_tokens": 1, "max_completion_tokens": 2}).max_tokens == 2
    assert chat(CHAT).sampling.temperature == 1.0 and chat(CHAT | {"temperature": 0}).sampling.temperature == 0.0
    assert chat(CHAT | {"temperature": None, "n": None, "stop": None}) == chat(CHAT)


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("a", [Text("a")]),
        (["a", "b"], [Text("a"), Text("b")]),
        ([1, 2], [TokenIds((1, 2))]),
        ([[1], [2, 3]], [TokenIds((1,)), TokenIds((2, 3))]),
        (["a", [1]], [Text("a"), TokenIds((1,))]),
    ],
)
def test_every_form_of_prompt_is_read(prompt: Any, prompts: list[Any]) -> None:
    assert [request.prompt for request in completion(COMPLETION | {"prompt": prompt})] == prompts


@pytest.mark.parametrize("prompt", [[], [[]], ["a", 1], [1, "a"], [[1], 2], [-1], [True], None, {"a": 1}])
def test_every_other_form_is_refused(prompt: Any) -> None:
    with pytest.raises(BadRequest) as caught:
        completion(COMPLETION | {"prompt": prompt})
    assert (caught.value.param or "").startswith("prompt")


def test_more_than_is_taken_at_once_is_refused() -> None:
    for body in ({"prompt": ["a"] * 300}, {"prompt": ["a"] * 100, "n": 3}, {"best_of": 3}, {"suffix": "x"}):
        with pytest.raises(BadRequest):
            completion(COMPLETION | body)


@given(st.binary(max_size=200))
@example(b'{"model":"m","messages":[{"role":"user","content":"\\ud800"}]}')
@example(b'{"model":"m","messages":[{"role":"user","content":"x"}],"temperature":1e999}')
def test_any_bytes_are_a_request_or_a_typed_error(body: bytes) -> None:
    for parser in (openai_chat.PARSER, openai_completions.PARSER):
        try:
            parser.parse(body)
        except BadRequest as error:
            assert error.message and error.fix


FIELDS = sorted({*openai_chat.ChatFields.__struct_fields__, *openai_completions.CompletionFields.__struct_fields__})


@settings(max_examples=300)
@given(st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=4))
def test_any_value_of_any_field_is_honoured_or_refused_by_name(changes: dict[str, Any]) -> None:
    for parse, base in ((chat, CHAT), (completion, COMPLETION)):
        try:
            parse(base | changes)
        except BadRequest as error:
            assert "`" not in error.message and len(str(error)) < 400
            assert error.param is None or error.param.split("[")[0].split(".")[0] in {*changes, "stream_options"}


@given(st.text(), st.sampled_from([None, "stop", "length"]), st.booleans(), st.integers(0, 9))
def test_a_handmade_chunk_is_the_json_it_should_be(text: str, reason: Any, padded: bool, index: int) -> None:
    text = text.encode("utf-8", "ignore").decode()
    request = Request("r", 'a "model"', "local", Text("x"))
    stream = openai_chat.ChatStream("chatcmpl-1", request, with_usage=True, padded=padded)
    events = stream.push(Delta(index, text, 1, (), reason)).split(b"\n\n")
    opening, *rest = [json.loads(event.removeprefix(b"data: ")) for event in events if event]
    assert opening["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert opening["model"] == 'a "model"' and opening["object"] == "chat.completion.chunk"
    if text or reason:
        (chunk,) = rest
        expected = {"content": text} if text else {}
        assert chunk["choices"] == [{"index": index, "delta": expected, "logprobs": None, "finish_reason": reason}]
        assert chunk["usage"] is None and chunk["id"] == "chatcmpl-1"


def test_a_padded_chunk_fills_its_bucket_whatever_it_holds() -> None:
    frame = ChunkFrame({"id": "x"}, with_usage=False, padded=True)
    for size in range(200):
        chunk = frame.choice(0, b'"text":' + msgspec.json.encode("a" * size), b"null", None)
        assert len(chunk) % 64 == 0


def test_scores_without_text_still_come() -> None:
    request = Request("r", "m", "local", Text("x"), num_top=0)
    stream = openai_chat.ChatStream("c", request)
    stream.push(Delta(0, "a", 1, (Scored("a", b"a", -1.0),)))
    event = stream.push(Delta(0, "", 1, (Scored("\ufffd", b"\xf0", -2.0),)))
    chunk = json.loads(event.removeprefix(b"data: "))
    assert chunk["choices"][0]["logprobs"]["content"][0]["bytes"] == [0xF0]


def test_hints_of_the_wire_types_resolve() -> None:
    assert get_type_hints(openai_chat.ChatFields) and get_type_hints(openai_completions.CompletionFields)
