"""An engine that says given texts and can go on behind tokens that were said elsewhere, and answers cut in two."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import msgspec

from isochrone.budget import Budget, Deadline
from isochrone.engine import records
from isochrone.places.local import Local
from isochrone.places.place import Delta, Partial, Prompted, Request, Scored
from tests.gateway.saying import SayingEngine


class ResumingEngine(SayingEngine):
    """`texts[0]` is the answer.  A score tells its position, so that a wrong one is seen."""

    def __init__(self, directory: Path, text: str) -> None:
        super().__init__(directory)
        self.ids = self.tokenizer.encode(text, add_special=False)
        self.replaced: dict[int, int] = {}

    async def _answer(self, submit: records.Submit) -> AsyncGenerator[records.Delta, None]:
        ids = [self.replaced.get(at, id) for at, id in enumerate(self.ids)]
        limit = len(ids) if submit.max_tokens is None else min(submit.max_tokens, len(ids))
        reason: records.FinishReason = "stop" if limit == len(ids) else "length"
        start = len(submit.resume[0].token_ids) if submit.resume else 0
        while True:
            end = min(start + self.num_at_once, limit)
            is_last = end >= limit
            part, scored = ids[start:end], submit.sampling.logprobs
            yield records.Delta(
                0, part, finish_reason=reason if is_last else None,
                logprobs=[-float(at) for at in range(start, end)] if scored else [],
                top=[[(id, -float(at))] for at, id in enumerate(part, start)] if scored else [],
                timing=records.Timing(1.0, 2.0, 4.0, 9, limit, 0, 0) if is_last else None,
            )  # fmt: skip
            if is_last:
                return
            start = end


class Whole(msgspec.Struct):
    """All that a caller sees of an answer."""

    text: str = ""
    reasoning: str = ""
    calls: list[tuple[str, str]] = []
    scored: list[Scored] = []
    ids: list[int] = []
    num_tokens: int = 0
    finish_reason: str | None = None
    stopped_by: str | None = None

    def push(self, delta: Delta) -> None:
        assert self.finish_reason is None, "nothing follows the end"
        self.text += delta.text
        self.reasoning += delta.reasoning
        for call in delta.tool_calls:
            if call.name:
                assert call.index == len(self.calls) and call.id
                self.calls.append((call.name, call.arguments))
            else:
                name, arguments = self.calls[call.index]
                self.calls[call.index] = (name, arguments + call.arguments)
        self.scored += delta.scored
        self.ids += delta.ids
        self.num_tokens += delta.num_tokens
        self.finish_reason, self.stopped_by = delta.finish_reason, delta.stopped_by


async def answered(place: Local, request: Request, *, num_ids: int | None = None, whole: Whole | None = None) -> Whole:
    """The answer, or its beginning: hung up as soon as so many tokens came."""
    whole = Whole() if whole is None else whole
    deadline = Deadline.start(Budget(), time.monotonic())
    async with aclosing(place.complete(msgspec.structs.replace(request, with_ids=True), deadline)) as events:
        async for event in events:
            if isinstance(event, Prompted):
                continue
            whole.push(event)
            if num_ids is not None and len(whole.ids) >= num_ids:
                return whole
    return whole


def partial_of(whole: Whole) -> Partial:
    return Partial(whole.text, whole.reasoning, tuple(whole.ids))


async def cut(first: Local, second: Local, request: Request, num_ids: int) -> Whole:
    """The answer begun by the first place, which dies after so many tokens, and gone on with by the second."""
    whole = await answered(first, request, num_ids=num_ids) if num_ids else Whole()
    if whole.finish_reason is not None:
        return whole
    return await answered(second, msgspec.structs.replace(request, partial=partial_of(whole)), whole=whole)
