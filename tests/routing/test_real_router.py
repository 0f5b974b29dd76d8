"""The real model behind the router, at places that die: the answer is the one that nobody cut."""

from __future__ import annotations

import json
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace

import isochrone
from isochrone.budget import Budget, Deadline
from isochrone.engine.local import LocalEngine
from isochrone.errors import Unreachable
from isochrone.places.local import Local
from isochrone.places.place import Chat, Delta, Format, Message, Price, Prompted, Request, Sampling
from isochrone.places.reader import Reader
from isochrone.places.spec import ModelSpec
from isochrone.routing.members import FixedFleet
from isochrone.routing.records import Target
from isochrone.routing.router import SEEDS, Router
from tests.places.test_real_continuing import TOOLS, InThread

pytestmark = pytest.mark.model
CHAT = Chat((Message("user", "Name two rivers and say something about each, with an emoji."),))
PET = Format("json_schema", json.dumps({"type": "object", "properties": {"pet": {"enum": ["cat 🐈", "dog 🐕"]}},
                                        "required": ["pet"], "additionalProperties": False}))  # fmt: skip
ASKED = {
    "greedy": {"prompt": CHAT, "max_tokens": 40, "sampling": Sampling(temperature=0.0)},
    "drawn": {"prompt": CHAT, "max_tokens": 40, "sampling": Sampling(temperature=1.2)},
    "held to a form": {"prompt": CHAT, "max_tokens": 40, "format": PET},
    "stopped": {"prompt": CHAT, "max_tokens": 40, "sampling": Sampling(temperature=0.0), "stops": (". The",)},
    "a call": {"prompt": TOOLS, "max_tokens": 60, "sampling": Sampling(temperature=0.0)},
}


class Mortal:
    """A place in front of another that dies after so many deltas.  None: never"""

    def __init__(self, name: str, inner: Local, die_after: int | None) -> None:
        self.name, self._inner, self._die_after = name, inner, die_after
        self.price, self.location, self.continues = inner.price, inner.location, inner.continues
        self.num_asked = 0

    def status(self) -> Any:
        return self._inner.status()

    async def tokenize(self, prompt: Any) -> list[int]:
        return await self._inner.tokenize(prompt)

    async def detokenize(self, ids: list[int]) -> str:
        return await self._inner.detokenize(ids)

    async def close(self) -> None: ...

    async def complete(self, request: Request, deadline: Deadline) -> AsyncGenerator[Prompted | Delta, None]:
        self.num_asked += 1
        num_deltas = 0
        async for event in self._inner.complete(request, deadline):
            if isinstance(event, Delta):
                if num_deltas == self._die_after:
                    raise Unreachable(f"{self.name} hung up.", fix="Ask again.")
                num_deltas += 1
            yield event


@pytest.fixture(scope="module")
def model():
    with isochrone.load("smollm2-135m", context=512) as model:
        yield model


@pytest.fixture
async def place(model: Any) -> AsyncIterator[Local]:
    tokenizer = model._tokenizer
    engine = LocalEngine(model._runtime, load_tokens=lambda: tokenizer)
    place = Local(
        "m", InThread(engine), lambda: Reader(tokenizer, tokenizer.chat_template), model_hash=lambda: "0123456789abcdef"
    )
    await place.start()
    await place.identify()
    yield place
    assert engine.stats.num_running == engine.stats.num_waiting == 0


class Ordered(FixedFleet):
    """Its first place is the one that is chosen: the others cost money."""

    def about(self, target: Target) -> ModelSpec:
        is_first = target[0] == next(iter(self.members))
        return ModelSpec(target[1], target[1], price=Price(0.0, 0.0) if is_first else Price(1.0, 1.0))


async def said(router: Router, asked: Request) -> tuple[str, str, list[int], str | None, int]:
    """(words, calls, tokens, why it ended, how many places it came from)"""
    text, calls, ids, reason, num_places = "", "", [], None, 0
    async for event in router.complete(asked, Deadline.start(Budget(), time.monotonic())):
        if isinstance(event, Delta):
            text += event.text
            calls += "".join(call.name + call.arguments for call in event.tool_calls)
            ids += event.ids
            if event.finish_reason is not None:
                assert event.route is not None
                reason, num_places = event.finish_reason, len(event.route.attempts)
    return text, calls, ids, reason, num_places


@pytest.mark.parametrize("die_after", [1, 2, 5, 9, 17])
@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED.keys())
async def test_an_answer_that_is_gone_on_with_elsewhere_is_the_very_same(
    place: Local, asked: dict[str, Any], die_after: int
) -> None:
    sampling = replace(asked.get("sampling", Sampling()), seed=11)
    request = Request("r", "m", "t", **{**asked, "sampling": sampling})
    expected = await said(Router(FixedFleet([Mortal("well", place, None)])), request)
    ill, well = Mortal("ill", place, die_after), Mortal("well", place, None)
    answer = await said(Router(Ordered([ill, well])), request)
    assert answer[:4] == expected[:4]
    assert ill.num_asked == 1 and well.num_asked == (answer[4] > 1)


async def test_without_a_seed_one_is_drawn_that_both_places_use(place: Local) -> None:
    request = Request("r", "m", "t", CHAT, max_tokens=30, sampling=Sampling(temperature=1.5))
    seeds = random.Random(3)
    expected = await said(
        Router(FixedFleet([Mortal("well", place, None)])),
        replace(request, sampling=replace(request.sampling, seed=seeds.randrange(SEEDS))),
    )
    router = Router(Ordered([Mortal("ill", place, 4), Mortal("well", place, None)]), random=random.Random(3))
    assert (await said(router, request))[:4] == expected[:4]
