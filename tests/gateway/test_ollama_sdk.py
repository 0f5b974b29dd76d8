"""Ollama's API through the client that people use, over what a test wrote down."""

from __future__ import annotations

import json
from collections.abc import Iterator

import ollama
import pytest

from isochrone.errors import Overloaded, Unreachable
from isochrone.places.place import Delta, Scored, Timing
from tests.gateway.conftest import Server
from tests.gateway.playing import DONE, MODEL, PlayingPlace, called, thought, words

HI = [{"role": "user", "content": "hi"}]


@pytest.fixture
def client(playing_server: Server, played: PlayingPlace) -> Iterator[ollama.Client]:
    with ollama.Client(playing_server.url) as client:
        yield client


def test_a_streamed_chat_is_the_same_text_as_a_whole_one(client: ollama.Client, played: PlayingPlace) -> None:
    played.plays = [[*thought("let me see"), *words("Hello there")]]
    whole = client.chat(MODEL, HI)
    parts = list(client.chat(MODEL, HI, stream=True))
    assert "".join(part.message.content or "" for part in parts) == whole.message.content == "Hello there "
    assert "".join(part.message.thinking or "" for part in parts) == whole.message.thinking == "let me see "
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    assert (whole.done_reason, whole.prompt_eval_count, whole.eval_count) == ("stop", 7, 6)
    assert (parts[-1].done_reason, parts[-1].eval_count) == ("stop", 6)


def test_durations_are_nanoseconds_of_where_the_time_went(client: ollama.Client, played: PlayingPlace) -> None:
    played.plays = [[Delta(0, "x", 1, finish_reason="length", timing=Timing(0.5, 0.25, 0.125))]]
    answer = client.generate(MODEL, "hi")
    assert (answer.prompt_eval_duration, answer.eval_duration) == (250_000_000, 125_000_000)
    assert answer.load_duration == 0 and answer.total_duration > 0 and answer.done_reason == "length"


def test_a_generated_text_is_streamed_as_lines(playing_server: Server, played: PlayingPlace) -> None:
    status, headers, text = playing_server.send("POST", "/api/generate", {"model": MODEL, "prompt": "hi"})
    lines = [json.loads(line) for line in text.splitlines()]
    assert status == 200 and headers["content-type"] == "application/x-ndjson"
    assert [line["response"] for line in lines] == ["Hello ", "there ", ""] and lines[-1]["done"]


def test_calls_of_tools_come_whole_with_arguments_as_an_object(client: ollama.Client, played: PlayingPlace) -> None:
    cut = called(2, "weather", '{"city":"Rome"}')[:2]
    played.plays = [[*called(0, "weather", '{"city":"Oslo"}'), *called(1, "clock", ""), *DONE], [*cut, *DONE]]
    parts = list(client.chat(MODEL, HI, stream=True))
    calls = [call.function for part in parts for call in part.message.tool_calls or ()]
    assert [(call.name, call.arguments) for call in calls] == [("weather", {"city": "Oslo"}), ("clock", {})]
    assert client.chat(MODEL, HI).message.tool_calls is None, "a call that was cut off is no call"


def test_log_probabilities_are_given_with_the_text(client: ollama.Client, played: PlayingPlace) -> None:
    scored = (Scored("Hi", b"Hi", -0.5, (("Hi", b"Hi", -0.5),)),)
    played.plays = [[Delta(0, "Hi", 1, scored, "stop")]]
    answer = client.generate(MODEL, "hi", logprobs=True, top_logprobs=1)
    assert answer.logprobs is not None and answer.logprobs[0].logprob == -0.5
    assert answer.logprobs[0].top_logprobs is not None and played.requests[0].num_top == 1


def test_what_ended_an_answer_early_is_said(playing_server: Server, played: PlayingPlace) -> None:
    played.plays = [[Delta(0, "x", 1, finish_reason="length", ended_by="deadline")]]
    body = {"model": MODEL, "prompt": "hi", "stream": False}
    _, _, text = playing_server.send("POST", "/api/generate", body)
    assert json.loads(text)["done_reason"] == "length" and json.loads(text)["isochrone"]["ended_by"] == "deadline"


@pytest.mark.parametrize("stream", [False, True])
def test_an_error_is_the_clients_own(client: ollama.Client, played: PlayingPlace, stream: bool) -> None:
    played.plays = [[Overloaded("busy", fix="wait", retry_after_s=2)], [*words("a b")[:1], Unreachable("gone", fix="")]]
    with pytest.raises(ollama.ResponseError, match="busy") as caught:
        list(client.chat(MODEL, HI, stream=True)) if stream else client.chat(MODEL, HI)
    assert caught.value.status_code == 503
    with pytest.raises(ollama.ResponseError, match="gone"):
        list(client.chat(MODEL, HI, stream=True)) if stream else client.chat(MODEL, HI)


def test_an_unknown_model_is_not_found(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match="no model") as caught:
        client.chat("other", HI)
    assert caught.value.status_code == 404


def test_an_empty_prompt_asks_whether_the_model_is_loaded(client: ollama.Client, played: PlayingPlace) -> None:
    assert client.chat(MODEL, []).done_reason == client.generate(MODEL, "").done_reason == "load"
    assert played.requests == []


def test_models_are_listed_shown_and_running(client: ollama.Client) -> None:
    assert [model.model for model in client.list().models] == [MODEL]
    assert client.show(f"{MODEL}:latest").capabilities == ["completion"]
    (running,) = client.ps().models
    assert (running.model, running.context_length) == (MODEL, 4096)


def test_the_version_is_ours(playing_server: Server) -> None:
    from isochrone import __version__

    assert json.loads(playing_server.send("GET", "/api/version")[2]) == {"version": __version__}
