"""The real model goes on with its own answers, cut at any token, as if nobody had cut them."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import closing
from typing import Any

import pytest

import isochrone
from isochrone.engine import records
from isochrone.engine.local import LocalEngine
from isochrone.places.local import Local
from isochrone.places.place import Chat, Format, Message, Prompt, Request, Sampling, Text, Tool, ToolChoice
from isochrone.places.reader import Reader
from tests.places.resuming import Whole, answered, cut

pytestmark = pytest.mark.model
PET = Format("json_schema", json.dumps({"type": "object", "properties": {"pet": {"enum": ["cat 🐈", "dog 🐕"]}},
                                        "required": ["pet"], "additionalProperties": False}))  # fmt: skip


class InThread:
    """`LocalEngine` as a place wants it."""

    failure, is_up, num_restarts = None, True, 0

    def __init__(self, engine: LocalEngine) -> None:
        self._engine, self._id = engine, 0

    @property
    def stats(self) -> records.EngineStats:
        return self._engine.stats

    async def start(self) -> records.EngineInfo:
        return self._engine.info

    async def submit(self, submit: records.Submit) -> AsyncGenerator[records.Delta, None]:
        with closing(self._engine.submit(submit)) as deltas:
            for delta in deltas:
                self._id = delta.id
                yield delta

    def cancel(self, submit: records.Submit, sample: int) -> None:
        self._engine.cancel(self._id, sample)

    async def close(self) -> None: ...


@pytest.fixture(scope="module")
def model():
    with isochrone.load("smollm2-135m", context=512) as model:
        yield model


@pytest.fixture
async def place(model: Any) -> AsyncIterator[Local]:
    tokenizer = model._tokenizer
    engine = LocalEngine(model._runtime, load_tokens=lambda: tokenizer)
    place = Local("m", InThread(engine), lambda: Reader(tokenizer, tokenizer.chat_template))
    await place.start()
    yield place
    assert engine.stats.num_running == engine.stats.num_waiting == 0


def ask(prompt: Prompt, **options: Any) -> Request:
    return Request("r", "m", "local", prompt, **options)


CHAT = Chat((Message("user", "Name two rivers."),))
TOOLS = Chat(
    (Message("user", "What time is it in Rome?"),),
    tools=(Tool("now", "the time", {"type": "object", "properties": {"city": {"enum": ["Rome", "Köln"]}},
                                    "required": ["city"], "additionalProperties": False}),),
    tool_choice=ToolChoice("required"),
)  # fmt: skip


@pytest.mark.parametrize(
    "request_",
    [
        ask(CHAT, max_tokens=16, sampling=Sampling(temperature=0.0)),
        ask(CHAT, max_tokens=16, sampling=Sampling(seed=7, top_p=0.95, frequency_penalty=0.3), num_top=2),
        ask(Text("日本語 🙂 日本語 🙂 日本語 🙂"), max_tokens=16, sampling=Sampling(temperature=0.0)),
        ask(Text("one two three one two three one two three one two"), max_tokens=16, stops=("two one",),
            sampling=Sampling(temperature=0.0)),
        ask(CHAT, max_tokens=40, format=PET, sampling=Sampling(seed=3)),
        ask(TOOLS, max_tokens=40, sampling=Sampling(seed=3)),
    ],
    ids=["greedy", "seeded", "characters", "stops", "schema", "tools"],
)  # fmt: skip
async def test_the_models_answer_cut_at_any_token_goes_on_exactly(place: Local, request_: Request) -> None:
    whole = await answered(place, request_)
    assert len(whole.ids) > 4
    for num_ids in range(len(whole.ids) + 1):
        again = await cut(place, place, request_, num_ids)
        assert _tokens(again) == _tokens(whole), f"cut after {num_ids} tokens"
        for one, other in zip(again.scored, whole.scored, strict=True):
            assert one.raw == other.raw and one.logprob == pytest.approx(other.logprob, abs=1e-5)


def _tokens(whole: Whole) -> tuple[Any, ...]:
    ids = whole.ids if whole.stopped_by is None else []
    return whole.text, whole.reasoning, whole.calls, ids, whole.finish_reason, whole.stopped_by
