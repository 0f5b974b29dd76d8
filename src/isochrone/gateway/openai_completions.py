"""`POST /v1/completions`: prompts as text or as token ids, alone or many, with echo and logprobs, as harnesses need."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import UNSET, Meta

from isochrone.errors import BadRequest
from isochrone.places.merge import merge
from isochrone.places.place import Delta, Prompt, Prompted, Request, Scored, Text, TokenIds

from .call import Call
from .chunks import ChunkFrame, joined, own_fields, usage
from .deadlines import deadline_of
from .fields import NUM_TOP_MAX, BodyParser, OwnFields, Refusals, TokenId, given
from .limits import Limits
from .meter import Meter
from .openai_tools import format_of

if TYPE_CHECKING:
    from .app import Gateway

NUM_TOKENS_DEFAULT = 16
"""What OpenAI documents for this endpoint when max_tokens is absent."""


class CompletionFields(OwnFields, kw_only=True, forbid_unknown_fields=True):
    """OpenAI's completions body.  `best_of` is honoured where it asks for no more than `n`."""

    prompt: str | list[str | TokenId | list[TokenId]]
    max_tokens: Annotated[int, Meta(ge=0)] | None = NUM_TOKENS_DEFAULT
    echo: bool | None = None
    logprobs: Annotated[int, Meta(ge=0, le=NUM_TOP_MAX)] | None = None
    best_of: Annotated[int, Meta(ge=1, le=128)] | None = None
    add_special_tokens: bool | None = None
    suffix: Any = UNSET


REFUSED: Refusals = {"suffix": (("",), "Remove it: the models here only continue a text.")}
PARSER = BodyParser(CompletionFields, REFUSED)


def to_requests(
    fields: CompletionFields, *, id: str, tenant: str, limits: Limits, dated: bool = False
) -> list[Request]:
    """One request a prompt.  Raises BadRequest, which names the field."""
    n = given(fields.n, 1)
    if fields.best_of is not None and fields.best_of != n:
        raise BadRequest(
            f"best_of is {fields.best_of} and n is {n}, but this server returns every answer that it draws.",
            fix="Ask for n answers and choose.", param="best_of",
        )  # fmt: skip
    prompts = prompts_of(fields.prompt, add_special=given(fields.add_special_tokens, True))
    if len(prompts) > limits.num_prompts or len(prompts) * n > limits.num_answers:
        raise BadRequest(
            f"{len(prompts)} prompts with {n} answers each are more than this server takes at once "
            f"({limits.num_prompts} prompts, {limits.num_answers} answers).",
            fix="Send them in several requests.", param="prompt",
        )  # fmt: skip
    return [
        Request(
            id=id if len(prompts) == 1 else f"{id}-{index}",
            model=fields.model,
            tenant=tenant,
            prompt=prompt,
            max_tokens=given(fields.max_tokens, NUM_TOKENS_DEFAULT),
            n=n,
            sampling=fields.sampling(),
            stops=fields.stops(),
            stop_token_ids=tuple(fields.stop_token_ids or ()),
            ignore_eos=bool(fields.ignore_eos),
            num_top=fields.logprobs,
            echo=bool(fields.echo),
            dated=dated,
            format=format_of(None, fields.structured_outputs),
            drafts=given(fields.drafts, True),
            pin_s=fields.pin_s(),
        )
        for index, prompt in enumerate(prompts)
    ]


def prompts_of(prompt: str | list[str | int | list[int]], *, add_special: bool) -> list[Prompt]:
    """The forms OpenAI takes: a text, texts, one list of token ids, several such lists."""
    if isinstance(prompt, str):
        return [Text(prompt, add_special)]
    if not prompt:
        raise BadRequest("prompt is an empty list.", fix="Send a text, or at least one token.", param="prompt")
    if all(isinstance(item, int) for item in prompt):
        return [TokenIds(tuple(item for item in prompt if isinstance(item, int)))]
    prompts: list[Prompt] = []
    for index, item in enumerate(prompt):
        if isinstance(item, str):
            prompts.append(Text(item, add_special))
        elif isinstance(item, list) and item:
            prompts.append(TokenIds(tuple(item)))
        else:
            raise BadRequest(
                f"prompt[{index}] is neither a text nor a list of token ids like the others.",
                fix="Send texts, or lists of token ids.", param=f"prompt[{index}]",
            )  # fmt: skip
    return prompts


async def answer(gateway: Gateway, call: Call) -> None:
    """Handle the route."""
    fields: CompletionFields = PARSER.parse(await call.body())
    gateway.expect_model(fields.model)
    deadline, dated = deadline_of(call, fields.budget)
    requests = to_requests(fields, id=call.id, tenant=call.tenant, limits=gateway.limits, dated=dated)
    work = _streamed if fields.stream else _whole
    await gateway.generate(
        call,
        lambda meter: work(
            call, fields, merge([gateway.place.complete(r, deadline) for r in requests]), requests, meter
        ),
    )


Events = AsyncGenerator[tuple[int, Prompted | Delta], None]


async def _streamed(
    call: Call, fields: CompletionFields, events: Events, requests: list[Request], meter: Meter
) -> None:
    with_usage = fields.wants_usage()
    stream = CompletionStream(_new_id(), requests, with_usage=with_usage, padded=fields.wants_padding())
    async with aclosing(events):
        async for prompt, event in events:
            meter.push(event, time.monotonic())
            if chunks := stream.push(prompt, event):
                await call.stream(chunks)
    await call.end_stream(stream.usage(*meter.counts) if with_usage else b"")


async def _whole(call: Call, fields: CompletionFields, events: Events, requests: list[Request], meter: Meter) -> None:
    answer = CompletionAnswer(_new_id(), requests)
    async with aclosing(events):
        async for prompt, event in events:
            meter.push(event, time.monotonic())
            answer.push(prompt, event)
    await call.respond(answer.body(*meter.counts))


class CompletionStream:
    """Deltas to chunks, `index` counting over prompts and answers."""

    def __init__(self, id: str, requests: list[Request], *, with_usage: bool = False, padded: bool = False) -> None:
        self._frame = ChunkFrame(_head(id, requests[0].model), with_usage=with_usage, padded=padded)
        self._n = requests[0].n
        self._scoring = requests[0].num_top is not None
        self._positions = [0] * (len(requests) * self._n)

    def push(self, prompt: int, event: Prompted | Delta) -> bytes:
        if isinstance(event, Prompted):
            if not event.text:
                return b""
            indices = range(prompt * self._n, (prompt + 1) * self._n)
            return b"".join(self._chunk(index, event.text, event.scored, None) for index in indices)
        if not (event.text or event.scored or event.finish_reason):
            return b""
        own = own_fields(event) if event.finish_reason else None
        return self._chunk(prompt * self._n + event.index, event.text, event.scored, event.finish_reason, own)

    def _chunk(
        self, index: int, text: str, scored: tuple[Scored, ...], reason: str | None, own: dict[str, Any] | None = None
    ) -> bytes:
        logprobs = b"null"
        if self._scoring:
            logprobs = msgspec.json.encode(_logprobs(scored, self._positions[index]))
            self._positions[index] += sum(len(token.text) for token in scored)
        return self._frame.choice(index, b'"text":%s' % msgspec.json.encode(text), logprobs, reason, own)

    def usage(self, num_prompt: int, num_cached: int, num_answer: int) -> bytes:
        return self._frame.usage(num_prompt, num_cached, num_answer)


@dataclass(slots=True)
class _Choice:
    texts: list[str]
    scored: list[Scored]
    reason: str | None = None
    own: dict[str, Any] = field(default_factory=dict)


class CompletionAnswer:
    """Deltas to one body."""

    def __init__(self, id: str, requests: list[Request]) -> None:
        self._head = _head(id, requests[0].model)
        self._n = requests[0].n
        self._scoring = requests[0].num_top is not None
        self._choices = [_Choice([], []) for _ in range(len(requests) * self._n)]

    def push(self, prompt: int, event: Prompted | Delta) -> None:
        first = prompt * self._n
        if isinstance(event, Prompted):
            for choice in self._choices[first : first + self._n]:
                choice.texts.append(event.text)
                choice.scored.extend(event.scored)
            return
        choice = self._choices[first + event.index]
        choice.texts.append(event.text)
        choice.scored.extend(event.scored)
        choice.reason = event.finish_reason
        if event.finish_reason:
            choice.own = own_fields(event)

    def body(self, num_prompt: int, num_cached: int, num_answer: int) -> bytes:
        choices = [
            {
                "index": index,
                "text": "".join(choice.texts),
                "logprobs": _logprobs(choice.scored, 0) if self._scoring else None,
                "finish_reason": choice.reason,
            }
            for index, choice in enumerate(self._choices)
        ]
        own = joined([choice.own for choice in self._choices])
        body = {**self._head, "choices": choices, "usage": usage(num_prompt, num_cached, num_answer)}
        return msgspec.json.encode(body | ({"isochrone": own} if own else {}))


def _new_id() -> str:
    return f"cmpl-{uuid.uuid4().hex}"


def _head(id: str, model: str) -> dict[str, Any]:
    return {"id": id, "object": "text_completion", "created": int(time.time()), "model": model}


def _logprobs(scored: tuple[Scored, ...] | list[Scored], position: int) -> dict[str, Any]:
    """OpenAI's parallel lists.  position  where the first token's text stands in the answer, in characters"""
    offsets = []
    for token in scored:
        offsets.append(position)
        position += len(token.text)
    return {
        "tokens": [token.text for token in scored],
        "token_logprobs": [token.logprob for token in scored],
        "top_logprobs": [
            None if token.logprob is None else {text: logprob for text, _, logprob in reversed(token.top)}
            for token in scored
        ],
        "text_offset": offsets,
    }
