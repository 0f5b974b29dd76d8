"""A place that plays what a test wrote down, and a server over it: for what a model cannot be made to say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, Literal

from isochrone.budget import Deadline
from isochrone.errors import IsochroneError
from isochrone.places.place import Chat, Delta, Model, Price, Prompt, Prompted, Request, Status, ToolDelta

MODEL = "tiny"
Play = list[Delta | IsochroneError | asyncio.Event]


def words(text: str, *, reason: Literal["stop", "length"] = "stop") -> Play:
    """An answer of one delta for each word."""
    parts = [f"{word} " for word in text.split()]
    return [*(Delta(0, part, 1) for part in parts), Delta(0, "", 1, finish_reason=reason, num_cached=2)]


def thought(text: str) -> Play:
    """Reasoning, to be put before an answer."""
    return [Delta(0, "", 1, reasoning=f"{word} ", num_reasoning=1) for word in text.split()]


def called(index: int, name: str, arguments: str, id: str | None = None) -> Play:
    """A call of a tool in three deltas, without an end."""
    half = len(arguments) // 2
    return [
        Delta(0, "", 1, tool_calls=(ToolDelta(index, id or f"call_{index}", name),)),
        Delta(0, "", 1, tool_calls=(ToolDelta(index, arguments=arguments[:half]),)),
        Delta(0, "", 1, tool_calls=(ToolDelta(index, arguments=arguments[half:]),)),
    ]


DONE: Play = [Delta(0, "", 1, finish_reason="tool_calls")]


class PlayingPlace:
    """Fulfils `Place`.  plays  answers to the next requests; a request beyond them is answered with `plays[-1]`"""

    name, location, continues = "playing", "local", "no"
    price = Price()

    def __init__(self) -> None:
        self.plays: list[Play] = [words("Hello there")]
        self.requests: list[Request] = []
        self.num_open = 0

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    def status(self) -> Status:
        return Status("ready", (Model(MODEL, 4096, 1_700_000_000),))

    async def tokenize(self, prompt: Prompt) -> list[int]:
        assert isinstance(prompt, Chat)
        return list(range(sum(len(message.content.split()) for message in prompt.messages)))

    async def detokenize(self, ids: list[int]) -> str:
        return " ".join(map(str, ids))

    async def complete(self, request: Request, deadline: Deadline) -> AsyncGenerator[Prompted | Delta, None]:
        play: Any = self.plays[min(len(self.requests), len(self.plays) - 1)]
        self.requests.append(request)
        self.num_open += 1
        try:
            if isinstance(play[0], IsochroneError):
                raise play[0]
            yield Prompted(7)
            for item in play:
                if isinstance(item, asyncio.Event):
                    await item.wait()
                elif isinstance(item, IsochroneError):
                    raise item
                else:
                    yield item
                    await asyncio.sleep(0)
        finally:
            self.num_open -= 1
