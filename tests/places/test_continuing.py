"""An answer cut at any token and gone on with elsewhere is the answer that nobody cut."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isochrone.errors import BadRequest, Unreachable
from isochrone.places.local import Local
from isochrone.places.place import Chat, Delta, Message, Partial, Request, Text, Tool
from tests.gateway.saying import TEMPLATE, read_model, write_model
from tests.places.resuming import ResumingEngine, Whole, answered, cut, partial_of

ASK = Chat((Message("user", "dog"),))
TOOLS = Chat((Message("user", "dog"),), tools=(Tool("weather", "", {"type": "object"}), Tool("now")))
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Köln 🌧", "days": [1, 2]}}\n</tool_call>'
CALLS = f'I look. {CALL}\n<tool_call>\n{{"name": "now", "arguments": {{}}}}\n</tool_call>'
THOUGHT = "<think>\nÜber 日本?\n</think>\n\nIn 日本, ja 🙂."
TEXTS = st.text(alphabet="ab é🙂日 n\n", min_size=1, max_size=16)


@cache
def model_directory() -> Path:
    return write_model(Path(mkdtemp()), TEMPLATE)


@asynccontextmanager
async def places(text: str, num_at_once: tuple[int, int] = (1, 1)) -> AsyncIterator[tuple[Local, Local]]:
    """Two that would say the same."""
    pair = []
    for num in num_at_once:
        engine = ResumingEngine(model_directory(), text)
        engine.num_at_once = num
        place = Local("tiny", engine, lambda: read_model(model_directory()))
        await place.start()
        pair.append(place)
    yield pair[0], pair[1]
    for place in pair:
        assert place.status().load.num_running == 0
        await place.close()


def ask(prompt: Any = ASK, **options: Any) -> Request:
    return Request("r", "tiny", "local", prompt, **options)


async def assert_same_however_cut(text: str, request: Request, num_at_once: tuple[int, int] = (1, 1)) -> Whole:
    async with places(text, num_at_once) as (first, second):
        whole = await answered(first, request)
        for num_ids in range(len(whole.ids) + 1):
            again = await cut(first, second, request, num_ids)
            assert seen(again) == seen(whole), f"cut after {num_ids} tokens"
    return whole


def seen(whole: Whole) -> Whole:
    """Without what came in the same step behind a stop string: how much that is depends on the steps."""
    return whole if whole.stopped_by is None else msgspec.structs.replace(whole, ids=[], num_tokens=0)


@pytest.mark.parametrize(
    ("text", "request_"),
    [
        ("Wörter 🙂🙂 und 日本 mehr", ask()),
        ("Wörter 🙂🙂 und 日本 mehr", ask(Text("The"))),
        ("Wörter 🙂🙂 und 日本 mehr", ask(num_top=1)),
        ("again and again and over", ask(stops=("again and over",))),
        ("again and again and over", ask(stops=("again and over",), num_top=1)),
        ("ab🙂ab🙂🙂ab", ask(stops=("🙂🙂", "b🙂ac"), num_top=1)),
        (CALLS, ask(TOOLS)),
        (CALLS, ask(TOOLS, num_top=1, stops=("city",))),
        (f"{THOUGHT} {CALL}", ask(TOOLS, stops=("日本?",), num_top=0)),
        (THOUGHT, ask()),
        (THOUGHT, ask(num_top=1, stops=("ja 🙂?",))),
        (THOUGHT, ask(max_tokens=20)),
        ("🙂🙂", ask(max_tokens=3)),
    ],
)
@pytest.mark.parametrize("num_at_once", [(1, 1), (3, 2), (1, 5)])
async def test_an_answer_cut_at_any_token_goes_on_exactly(
    text: str, request_: Request, num_at_once: tuple[int, int]
) -> None:
    whole = await assert_same_however_cut(text, request_, num_at_once)
    assert len(whole.ids) == whole.num_tokens > 2
    if request_.prompt is TOOLS:
        assert whole.calls[0] == ("weather", '{"city": "Köln 🌧", "days": [1, 2]}')


@settings(max_examples=60, deadline=None)
@given(
    TEXTS, st.lists(st.text(alphabet="ab é🙂日 n", min_size=1, max_size=3), max_size=2), st.booleans(),
    st.tuples(st.integers(1, 4), st.integers(1, 4)), st.one_of(st.none(), st.integers(1, 20)),
)  # fmt: skip
async def test_whatever_the_text_the_stops_and_the_steps_are(
    text: str, stops: list[str], with_scores: bool, num_at_once: tuple[int, int], max_tokens: int | None
) -> None:
    request = ask(stops=tuple(stops), num_top=1 if with_scores else None, max_tokens=max_tokens)
    await assert_same_however_cut(text, request, num_at_once)


async def test_scores_held_back_are_drawn_again_and_checked() -> None:
    async with places("again and again and over") as (first, second):
        request = ask(stops=("again and over",), num_top=1)
        begun = await answered(first, request, num_ids=5)
        assert len(begun.scored) < 5
        engine: Any = second._engine
        engine.replaced = {len(begun.scored): 40}
        with pytest.raises(Unreachable, match="draws other tokens"):
            await answered(second, msgspec.structs.replace(request, partial=partial_of(begun)))


async def test_a_stop_string_within_what_is_answered_ends_it_without_the_engine() -> None:
    async with places("again and over") as (first, second):
        begun = await answered(first, ask())
        partial = Partial(ids=tuple(begun.ids))
        whole = await answered(second, ask(stops=("and",), partial=partial))
        assert whole == Whole(finish_reason="stop", stopped_by="and")
        assert not second._engine.submitted  # type: ignore[attr-defined]


async def test_max_tokens_counts_what_is_answered_already() -> None:
    async with places("again and again and over") as (first, second):
        begun = await answered(first, ask(max_tokens=5), num_ids=3)
        rest = await answered(second, ask(max_tokens=5, partial=partial_of(begun)))
        assert (rest.num_tokens, rest.finish_reason) == (2, "length")
        over = await answered(second, ask(max_tokens=3, partial=partial_of(begun)))
        assert (over.num_tokens, over.finish_reason) == (0, "length")


async def test_the_receipt_of_an_answer_gone_on_with_has_all_of_its_tokens() -> None:
    async with places("again and again") as (first, second):
        whole = await answered(first, ask())
        begun = await answered(first, ask(), num_ids=3)
        request = ask(partial=partial_of(begun), with_receipt=True, with_ids=True)
        last = [event async for event in second.complete(request, _whenever())][-1]
        assert isinstance(last, Delta) and last.receipt is not None
        assert list(last.receipt.answer_ids) == whole.ids


@pytest.mark.parametrize(
    ("request_", "match"),
    [
        (ask(partial=Partial("other words", "", (40, 41))), "come to"),
        (ask(partial=Partial(ids=(40, 999))), "999"),
        (ask(partial=Partial("a"), n=2), "only one answer"),
    ],
)
async def test_what_cannot_be_gone_on_with_is_refused(request_: Request, match: str) -> None:
    async with places("again") as (_, second):
        with pytest.raises(BadRequest, match=match) as caught:
            await answered(second, request_)
        assert caught.value.param == "partial"


@pytest.mark.parametrize(
    ("partial", "written"),
    [
        (Partial("In 日本"), "In 日本"),
        (Partial("", "Über"), "<think>\nÜber"),
        (Partial("In 日本", "Über"), "<think>\nÜber\n</think>\n\nIn 日本"),
    ],
)
async def test_words_alone_are_gone_on_with_as_the_model_would_have_written_them(
    partial: Partial, written: str
) -> None:
    async with places(THOUGHT) as (_, second):
        await answered(second, ask(partial=partial))
        engine: Any = second._engine
        assert engine.tokenizer.decode(engine.submitted[-1].resume[0].token_ids, skip_special=False) == written


async def test_a_text_is_gone_on_with_behind_its_words() -> None:
    async with places("again and over") as (_, second):
        rest = await answered(second, ask(Text("The"), partial=Partial("again")))
        engine: Any = second._engine
        assert rest.text == engine.tokenizer.decode(engine.ids[len(engine.submitted[-1].resume[0].token_ids) :])


async def test_models_are_the_same_where_weights_plan_and_cache_are() -> None:
    async with places("a") as (first, second):
        assert first.status().models[0].same_as == ""
        first._model_hash = second._model_hash = lambda: "f" * 64
        assert await first.identify() == await second.identify() == first.status().models[0].same_as != ""
        second._identifying, second._model_hash = None, lambda: "0" * 64
        assert await second.identify() != await first.identify()


def _whenever() -> Any:
    from isochrone.budget import Budget, Deadline

    return Deadline.start(Budget(), 0.0)
