"""The local place: what it hands to its engine, what it refuses itself, how it waits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from isochrone.budget import Budget, Deadline
from isochrone.engine import records
from isochrone.errors import BadModel, BadRequest, ContextTooLong, DeadlineExceeded, Unreachable
from isochrone.places.accounts import Accounts
from isochrone.places.local import NUM_CHARS_INLINE, Local
from isochrone.places.place import (
    Chat,
    Delta,
    Message,
    Prompt,
    Prompted,
    Request,
    Sampling,
    Text,
    TokenIds,
    Tool,
    ToolCall,
)
from isochrone.places.reader import num_chars
from tests.gateway.scripted import CONTEXT, ScriptedEngine, read_tokenizer, write_tokenizer


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write_tokenizer(tmp_path)


@pytest.fixture
async def place(directory: Path) -> AsyncIterator[Local]:
    engine = ScriptedEngine()
    place = Local("tiny", engine, lambda: read_tokenizer(directory), grace_s=0.0)
    await place.start()
    yield place
    assert engine.num_open == 0
    await place.close()


def ask(prompt: Any, **options: Any) -> Request:
    return Request("r", "tiny", "local", prompt, **options)


def within(seconds: float | None = None) -> Deadline:
    return Deadline.start(Budget(total_s=seconds), time.monotonic())


async def complete(place: Local, request: Request, deadline: Deadline | None = None) -> list[Prompted | Delta]:
    async with aclosing(place.complete(request, deadline or within())) as events:
        return [event async for event in events]


async def test_a_prompt_is_said_once_and_first(place: Local) -> None:
    first, *rest = await complete(place, ask(TokenIds((40, 41, 42)), max_tokens=4, n=2))
    assert first == Prompted(3)
    assert all(isinstance(event, Delta) for event in rest)
    assert [event.index for event in rest if isinstance(event, Delta) and event.finish_reason] == [0, 1]


async def test_a_long_text_and_a_short_one_are_read_alike(place: Local) -> None:
    short = await place.tokenize(Text("The quick brown fox "))
    many = await place.tokenize(Text("The quick brown fox " * 500))
    assert await place.detokenize(many) == "The quick brown fox " * 500 and len(many) > 400 * len(short) / 2
    turns = Chat(tuple(Message("user", "dog") for _ in range(100)))
    assert await place.detokenize(await place.tokenize(turns)) == (
        "<|im_start|>user\ndog<|im_end|>\n" * 100 + "<|im_start|>assistant\n"
    )


@pytest.mark.parametrize(
    "long",
    [
        Text("a" * 3_000),
        Chat((Message("user", "a" * 3_000),)),
        Chat((Message("assistant", "", reasoning="a" * 3_000),)),
        Chat((Message("assistant", "", tool_calls=(ToolCall("c", "f", "a" * 3_000),)),)),
        Chat((Message("user", "a"),), tools=(Tool("f", "a" * 3_000),)),
        Chat((Message("user", "a"),), tools=(Tool("f", parameters={"enum": ["a" * 3_000]}),)),
    ],
)
def test_whatever_makes_a_prompt_long_counts(long: Prompt) -> None:
    """Long prompts are read in a thread, so that no stream stutters meanwhile."""
    assert num_chars(long) > NUM_CHARS_INLINE > num_chars(Chat((Message("user", "a"),), tools=(Tool("f"),)))


@pytest.mark.parametrize(
    ("request_", "kind", "param"),
    [
        (ask(TokenIds((330,))), BadRequest, "prompt"),
        (ask(Text("")), BadRequest, "prompt"),
        (ask(Text("a"), sampling=Sampling(logit_bias={999: 1.0})), BadRequest, "logit_bias"),
        (ask(Text("a"), stop_token_ids=(999,)), BadRequest, "stop_token_ids"),
        (ask(TokenIds((5,) * CONTEXT)), ContextTooLong, "prompt"),
        (ask(TokenIds((5,) * 10), max_tokens=CONTEXT), ContextTooLong, "max_tokens"),
    ],
)
async def test_what_the_model_cannot_take_is_refused_before_the_engine(
    place: Local, request_: Request, kind: type[BadRequest], param: str
) -> None:
    with pytest.raises(kind) as caught:
        await complete(place, request_)
    assert caught.value.param == param
    with pytest.raises(BadRequest):
        await place.detokenize([999])


async def test_only_a_stated_deadline_reaches_the_engine(directory: Path) -> None:
    engine = ScriptedEngine()
    place = Local("tiny", engine, lambda: read_tokenizer(directory))
    await place.start()
    await complete(place, ask(Text("a"), max_tokens=1), within(5))
    await complete(place, ask(Text("a"), max_tokens=1, dated=True), within(5))
    undated, dated = engine.submitted
    assert undated.total_at is None and dated.total_at == dated.arrived_at + 5


async def test_an_answer_that_its_stop_string_ended_is_cancelled_alone(directory: Path) -> None:
    engine = ScriptedEngine()
    place = Local("tiny", engine, lambda: read_tokenizer(directory))
    await place.start()
    await complete(place, ask(Text("The quick"), max_tokens=50, n=2, stops=("quick",)))
    assert [sample for _, sample in engine.cancelled] == [0, 1] and engine.num_open == 0


async def test_a_request_waits_for_the_model_as_long_as_it_can(directory: Path) -> None:
    place = Local("tiny", ScriptedEngine(), lambda: read_tokenizer(directory))
    assert place.status().state == "loading"
    early = asyncio.ensure_future(complete(place, ask(Text("a"), max_tokens=1)))
    with pytest.raises(DeadlineExceeded, match="being loaded"):
        await complete(place, ask(Text("a"), dated=True), within(0.01))
    await place.start()
    assert len(await early) == 2 and place.status().state == "ready"


async def test_a_model_that_cannot_be_loaded_is_said_to_whoever_waits(directory: Path) -> None:
    error = BadModel("The file is cut off.", fix="Pull it again.")
    place = Local("tiny", ScriptedEngine(load_error=error), lambda: read_tokenizer(directory))
    early = asyncio.ensure_future(complete(place, ask(Text("a"))))
    with pytest.raises(BadModel):
        await place.start()
    with pytest.raises(Unreachable, match="cut off"):
        await early
    assert place.status().state == "failed" and "Pull it again" in place.status().why


async def test_an_engine_that_stands_still_is_not_waited_for_past_the_deadline(directory: Path) -> None:
    engine = ScriptedEngine()
    place = Local("tiny", engine, lambda: read_tokenizer(directory), grace_s=0.0)
    await place.start()
    engine.gate.clear()
    with pytest.raises(DeadlineExceeded, match="no token in time"):
        await complete(place, ask(Text("a"), dated=True), within(0.02))
    assert engine.num_open == 0


def test_an_answer_for_which_the_model_never_ran_took_no_prefill() -> None:
    timing = records.Timing(0.0, 8.0, 8.0, 9, 3, 0, 0, num_forced=3)
    step = records.Delta(0, [1], finish_reason="stop", timing=timing)
    submit = records.Submit(prompt_ids=[1], arrived_at=6.0)
    info = records.EngineInfo(
        vocab_size=9, context=9, page_tokens=1, num_pages=1, num_sequences_max=1, num_sequence_tokens_max=9,
        plan_hash="p", kv_type="f32",
    )  # fmt: skip
    settled = Accounts(ask(TokenIds((1,))), submit, info, "").settle(step, Delta(0, "", 1, finish_reason="stop")).timing
    assert settled is not None and (settled.queue_s, settled.prefill_s, settled.decode_s) == (2.0, 0.0, 0.0)
