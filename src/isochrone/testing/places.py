"""Places that do what a test tells them: speak at a pace, refuse, die, fall silent, and go on with each other's words.

    place = ScriptedPlace("cloud", ["One", " two", " three"], turns=[Turn(die_after=2)])

Their time is the running loop's: with `virtual_loop.run`, none of it passes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal

from isochrone.budget import Deadline
from isochrone.errors import IsochroneError, Unreachable
from isochrone.places.place import (
    ABILITIES,
    Ability,
    Delta,
    Load,
    Model,
    Pace,
    Partial,
    Price,
    Prompt,
    Prompted,
    Request,
    Status,
    Usage,
)

FOR_EVER_S = 1e7


@dataclass(frozen=True, slots=True)
class Turn:
    """What a place does with one request.

    first_s, gap_s  before its first words, and between them
    num_empty     deltas without a word that come first
    error         raised instead of first words
    die_after     words after which the connection breaks, or `late_error` is raised
    end_after     words after which the stream ends without an ending
    stall_after   words after which nothing comes for stall_s
    ids_until     words after which it does not tell their tokens any more
    hold_every    the text of every so-manieth token comes only with the next one's; 0: of none
    close_s       how long it takes to hang up
    """

    first_s: float = 0.1
    gap_s: float = 0.02
    num_empty: int = 0
    error: Exception | None = None
    die_after: int | None = None
    late_error: Exception | None = None
    end_after: int | None = None
    stall_after: int | None = None
    stall_s: float = FOR_EVER_S
    ids_until: int | None = None
    hold_every: int = 0
    close_s: float = 0.0


class ScriptedPlace:
    """Fulfils `Place`.  Every answer is the words; token i of them has the id i.

    num_prompt  tokens that it counts in every prompt
    turns    what it does with the first request, the second and so on; the last one repeats
    same_as  names the model, so that places of one name go on exactly with each other's answers
    requests, deadlines  what it was asked
    num_open answers under way
    """

    def __init__(
        self, name: str, words: Sequence[str], turns: Sequence[Turn] = (), *, model: str = "m", same_as: str = "",
        abilities: Sequence[Ability] = ABILITIES, price: Price | None = None, location: str = "local",
        continues: Literal["exactly", "roughly", "no"] = "exactly", counts_usage: bool = False,
        context: int | None = None, quality: float | None = None, num_prompt: int = 10,
    ) -> None:  # fmt: skip
        self.name, self.location, self.price = name, location, price or Price()
        self.continues: Literal["exactly", "roughly", "no"] = continues
        self.words, self.turns = list(words), list(turns) or [Turn()]
        self.models: tuple[Model, ...] = (
            Model(model, context, 0, abilities=tuple(abilities), same_as=same_as, quality=quality, price=price),
        )  # a test may add more
        self._counts_usage, self._num_prompt = counts_usage, num_prompt
        self.state: Literal["loading", "ready", "restarting", "failed"] = "ready"
        self.load = Load()
        self.pace: Pace | None = None
        self.requests: list[Request] = []
        self.deadlines: list[Deadline] = []
        self.num_open = self.num_begun = 0
        self.is_closed = False

    def status(self) -> Status:
        return Status(self.state, self.models, self.load, pace=self.pace)

    async def tokenize(self, prompt: Prompt) -> list[int]:
        return list(range(len(self.words)))

    async def detokenize(self, ids: list[int]) -> str:
        return "".join(self.words[id] for id in ids)

    async def close(self) -> None:
        self.is_closed = True

    async def complete(self, request: Request, deadline: Deadline) -> AsyncGenerator[Prompted | Delta, None]:
        turn = self.turns[min(len(self.requests), len(self.turns) - 1)]
        self.requests.append(request)
        self.deadlines.append(deadline)
        self.num_open += 1
        try:
            async with aclosing(self._answer(request, turn)) as events:
                async for event in events:
                    yield event
        except _Ended:
            return
        finally:
            try:
                if turn.close_s:
                    await asyncio.sleep(turn.close_s)
            finally:
                self.num_open -= 1

    async def _answer(self, request: Request, turn: Turn) -> AsyncGenerator[Prompted | Delta, None]:
        await asyncio.sleep(turn.first_s)
        if turn.error is not None:
            raise turn.error
        yield Prompted(self._num_prompt)
        for _ in range(turn.num_empty):
            yield Delta(0, "", 0)
        num_words = len(self.words) if request.max_tokens is None else min(len(self.words), request.max_tokens)
        reason: Literal["stop", "length"] = "length" if num_words < len(self.words) else "stop"
        at, held = self._begin(request.partial)
        for number in range(num_words - at):
            await self._fail(turn, number)
            is_last = at + number == num_words - 1
            text = held + self.words[at + number]
            is_held = not is_last and turn.hold_every and (number + 1) % turn.hold_every == 0
            held = text if is_held else ""
            tells = request.with_ids and (turn.ids_until is None or number < turn.ids_until)
            ids = (at + number,) if tells else ()
            yield Delta(0, "" if is_held else text, 1, ids=ids)
            await asyncio.sleep(turn.gap_s)
        await self._fail(turn, num_words - at)
        usage = Usage(self._num_prompt + at, max(0, num_words - at)) if self._counts_usage else None
        yield Delta(0, held, 0, finish_reason=reason, usage=usage)

    async def _fail(self, turn: Turn, number: int) -> None:
        if turn.die_after == number:
            raise turn.late_error or Unreachable(f"{self.name} hung up.", fix="Ask again.")
        if turn.stall_after == number:
            await asyncio.sleep(turn.stall_s)
        if turn.end_after == number:
            raise _Ended

    def _begin(self, partial: Partial | None) -> tuple[int, str]:
        """(the token to go on with, words before it that the caller has not seen).  Checks what it is given."""
        if partial is None:
            return 0, ""
        whole = "".join(self.words)
        if not whole.startswith(partial.text):
            raise AssertionError(f"{self.name} is to go on with {partial.text!r}, which nobody said.")
        if partial.ids:
            if list(partial.ids) != list(range(len(partial.ids))):
                raise AssertionError(f"{self.name} is to go on with the tokens {partial.ids}.")
            return len(partial.ids), "".join(self.words[: len(partial.ids)])[len(partial.text) :]
        at = length = 0
        while length < len(partial.text):
            length += len(self.words[at])
            at += 1
        return at, whole[len(partial.text) : length]


class _Ended(Exception):
    """The stream is to end here."""


def scripted_error(kind: type[IsochroneError], **more: Any) -> IsochroneError:
    """An error of that kind, as a place raises it."""
    return kind("Scripted.", fix="Nothing to fix.", **more)
