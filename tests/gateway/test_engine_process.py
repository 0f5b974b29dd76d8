"""The gateway over a real engine process with a runtime that has no model: deaths, deadlines, hang-ups by the dozen."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from isochrone.engine.client import EngineClient
from isochrone.engine.records import EngineSpec
from isochrone.gateway.serve import Serving
from tests.gateway.conftest import MODEL, Server, start_server, stop_server

NUM_PAGES = 64
GREEDY: dict[str, Any] = {
    "model": MODEL, "prompt": "The quick brown fox", "max_tokens": 60, "temperature": 0,
    "extra_body": {"ignore_eos": True},
}  # fmt: skip
Start = Callable[..., Server]


@pytest.fixture
def start(tokenizer_directory: Path) -> Iterator[Start]:
    """Starts servers over a fake runtime with the faults it is given; afterwards no page may be held."""
    servers: list[Server] = []

    def start(**faults: Any) -> Server:
        facts = {"vocab_size": 330, "context": 512, "num_pages": NUM_PAGES, "num_tokens_max": 128}
        fake = "isochrone.testing.runtime"
        spec = EngineSpec(load=f"{fake}:load_fake", tokens=f"{fake}:load_fake_tokens", arguments={**facts, **faults})
        serving = Serving(port=0, log_level="critical")
        servers.append(start_server(tokenizer_directory, serving, lambda: EngineClient(spec)))
        return servers[-1]

    yield start
    for server in servers:
        stats = server.engine.stats
        assert stats.num_pages_held == 0 and stats.num_pages_free + stats.num_pages_cached == stats.num_pages
        stop_server(server)


def idle(server: Server) -> None:
    """Returns when the engine has nothing left to do; a last tiny request makes it say so."""
    server.client().completions.create(model=MODEL, prompt="a", max_tokens=1)
    server.wait_until(lambda: server.engine.stats.num_running == server.engine.stats.num_waiting == 0)


def test_a_request_before_the_model_is_loaded_waits_for_it(start: Start) -> None:
    server = start()
    answer = server.client().completions.create(**GREEDY)
    assert answer.usage is not None and answer.usage.completion_tokens == 60


def test_the_engines_process_finds_the_tokens_that_a_grammar_needs(start: Start) -> None:
    """They are loaded there, with the first grammar, by the name in the spec.  (Its words are not the gateway's.)"""
    pytest.importorskip("llguidance")
    form = {"type": "json_schema", "json_schema": {"name": "flag", "schema": {"type": "boolean"}}}
    messages: Any = [{"role": "user", "content": "yes?"}]
    answer = start().client().chat.completions.create(
        model=MODEL, messages=messages, max_tokens=20, response_format=form, temperature=0,  # type: ignore[call-overload]
    )  # fmt: skip
    assert answer.usage.completion_tokens == 1 and answer.choices[0].finish_reason == "stop"


def test_a_seed_is_a_text_streamed_or_not_and_none_is_another_each_time(start: Start) -> None:
    client = start().client()
    drawn = GREEDY | {"temperature": 1.0, "n": 2}
    first, second = (client.completions.create(**drawn, seed=5) for _ in range(2))
    assert [choice.text for choice in first.choices] == [choice.text for choice in second.choices]
    assert first.choices[0].text != first.choices[1].text
    texts = ["", ""]
    for chunk in client.completions.create(**drawn, seed=5, stream=True):
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert texts == [choice.text for choice in first.choices]
    assert client.completions.create(**drawn).choices[0].text != client.completions.create(**drawn).choices[0].text


def test_a_death_in_mid_stream_is_a_pause_and_the_same_text(start: Start, tmp_path: Path) -> None:
    unbroken = start().client().completions.create(**GREEDY, logprobs=2).choices[0]
    server = start(die_at=40, life_file=str(tmp_path / "died"))
    chunks = list(server.client().completions.create(**GREEDY, logprobs=2, stream=True))
    assert (tmp_path / "died").exists() and server.engine.num_restarts == 1
    assert "".join(chunk.choices[0].text for chunk in chunks) == unbroken.text
    tokens = [
        token for chunk in chunks if chunk.choices[0].logprobs for token in chunk.choices[0].logprobs.tokens or []
    ]
    assert unbroken.logprobs is not None and tokens == unbroken.logprobs.tokens
    assert b"isochrone_engine_restarts 1" in server.send("GET", "/metrics")[2]
    idle(server)


def test_a_request_that_kills_every_engine_gets_an_error_and_the_next_an_answer(start: Start) -> None:
    server = start(die_token=7)
    with pytest.raises(openai.APIStatusError) as caught:
        server.client().completions.create(model=MODEL, prompt=[9, 7, 9], max_tokens=5)
    assert (caught.value.status_code, caught.value.code) == (502, "engine_died")
    server.client().completions.create(model=MODEL, prompt=[9, 9], max_tokens=1)
    idle(server)


def test_an_engine_that_cannot_load_ends_the_server(start: Start, wait_for: Callable[..., None]) -> None:
    server = start(raise_on_load=True)
    wait_for(lambda: not server.thread.is_alive())
    assert len(server.errors) == 1


def test_a_harness_reads_the_same_scores_for_a_prompt_in_one_chunk_or_many(start: Start) -> None:
    client = start().client()
    scored: dict[str, Any] = {"model": MODEL, "max_tokens": 0, "echo": True, "logprobs": 3}
    ids = [random.Random(1).randrange(3, 330) for _ in range(300)]  # more than one step takes
    whole = client.completions.create(prompt=ids, **scored).choices[0].logprobs
    part = client.completions.create(prompt=ids[:50], **scored).choices[0].logprobs
    assert whole is not None and part is not None and whole.token_logprobs is not None
    assert len(whole.token_logprobs) == 300 and whole.token_logprobs[:50] == part.token_logprobs


@pytest.mark.parametrize("deadline_ms", ["1", "30"])
def test_a_deadline_is_kept_with_a_504_or_a_shorter_answer(start: Start, deadline_ms: str) -> None:
    server = start()
    idle(server)
    body = GREEDY | {"max_tokens": 450}
    body |= body.pop("extra_body")
    status, _, answer = server.send("POST", "/v1/completions", body, {"x-deadline-ms": deadline_ms})
    said = json.loads(answer)
    if status == 200:
        assert said["choices"][0]["finish_reason"] == "length"
    else:
        assert (status, said["error"]["code"]) == (504, "deadline_exceeded")
    idle(server)


@pytest.mark.parametrize("seed", range(2))
def test_a_crowd_that_hangs_up_at_random_leaves_nothing_behind(start: Start, seed: int) -> None:
    server = start()
    idle(server)
    dice = random.Random(seed)
    outcomes: list[str] = []
    host, port = server.address

    async def visitor(num_bytes_read: int | None, stream: bool, num_tokens: int) -> None:
        reader, writer = await asyncio.open_connection(host, port)
        prompt = [dice.randrange(3, 330) for _ in range(dice.randrange(1, 100))]
        fields = {
            "model": MODEL,
            "prompt": prompt,
            "max_tokens": num_tokens,
            "stream": stream,
            "n": dice.randrange(1, 4),
        }
        body = json.dumps(fields).encode()
        writer.write(b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n")
        writer.write(b"content-length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        answer = await (reader.read() if num_bytes_read is None else reader.read(num_bytes_read))
        writer.close()
        if num_bytes_read is None:
            outcomes.append(answer.split(b" ", 2)[1].decode())
            assert b"[DONE]" in answer or not stream or outcomes[-1] == "503"

    async def crowd() -> None:
        async with asyncio.timeout(60):
            await asyncio.gather(
                *(
                    visitor(dice.choice([None, 0, 1, 300]), dice.random() < 0.7, dice.randrange(1, 80))
                    for _ in range(64)
                )
            )

    asyncio.run(crowd())
    assert outcomes and set(outcomes) <= {"200", "503"}
    idle(server)
