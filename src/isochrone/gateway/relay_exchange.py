"""A chat as the executor sees it when its items are bytes for the caller: a place that speaks the caller's dialect is
relayed, any other is asked in our own words, and its deltas become the same kind of bytes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, Protocol, TypeAlias

import msgspec
from msgspec.structs import replace

from isochrone.budget import Deadline
from isochrone.places.place import Delta, Model, Partial, Place, Prompted, Request, Usage
from isochrone.places.route import Route
from isochrone.routing.execute import Sent, Speech, Tally
from isochrone.routing.records import Target

from .openai_chat import ChatAnswer, ChatStream, new_id
from .relay import Door, relay
from .relay_body import ChatBody
from .relay_frames import SPOKEN, Ending, Piece, payload_of

Find: TypeAlias = Callable[[Target], tuple[Place, Model]]


class Doors(Protocol):
    """Which places speak the caller's dialect."""

    def door(self, place: Place, model: str) -> tuple[Door, str] | None:
        """Where a place takes chats as they are, and what it calls that model;  None: it speaks another dialect."""
        ...


class RelayExchange:
    """Fulfils `Exchange` for one chat.

    request  the body in our own words, made when a place first needs them.  Raises BadRequest
    frames   makes the chunks of what is said in our own words
    route    (the attempt whose words these are) -> what to tell of the answer's way
    seed     for what is said in our own words, so that equal models go on exactly
    is_dated  a total time was stated, for this chat or the run that it is a step of
    """

    def __init__(
        self, body: ChatBody, request: Callable[[], Request], doors: Doors, find: Find,
        route: Callable[[Sent], Route], seed: int, *, is_dated: bool,
    ) -> None:  # fmt: skip
        self._body, self._request, self._doors, self._find, self._route = body, request, doors, find, route
        self._seed, self._is_dated = seed, is_dated
        self._said: list[bytes] = []
        self._speech: Speech | None = None  # what was said in our own words: its tokens are known
        self._is_relayed = False  # the last words were another's own bytes
        self._speaker: Sent | None = None
        self.is_over = False
        self.ending_seen: Ending | None = None
        self.route: Route | None = None

    def open(self, target: Target, deadline: Deadline, *, resume: bool) -> AsyncGenerator[Piece, None]:
        place, model = self._find(target)
        door = None if resume else self._doors.door(place, model.id)
        if door is not None:
            return relay(door[0], door[1], self._body, deadline.total_at if self._is_dated else None)
        speech = self._speech_of_all()
        num_before = speech.num_drawn if resume else 0
        events = speech.open(target, deadline, resume=resume)
        return self._in_our_words(model, events, num_before=num_before, resume=resume)

    def count(self, item: Piece, tally: Tally) -> bool:
        tally.num_answer += item.num_frames
        usage = item.ending.usage if item.ending is not None else None
        if usage is not None:
            tally.num_prompt, tally.num_answer = usage.num_prompt, usage.num_answer
            tally.num_cached, tally.num_cache_written = usage.num_cached, usage.num_cache_written
        return item.commits

    def take(self, item: Piece, sent: Sent) -> Piece:
        if sent is not self._speaker:
            self._speaker, self.route = sent, self._route(sent)
        if item.event is not None:
            self._is_relayed = False
            self._speech_of_all().take(item.event, sent)
        elif item.ending is None:
            self._is_relayed, self._speech = True, None
        if self._body.is_streamed and self._body.num_answers == 1:
            self._said.append(item.data)
        if item.ending is not None:
            self.is_over, self.ending_seen, self.route = True, item.ending, self._route(sent)
        return item

    def can_resume(self, target: Target) -> bool:
        """By text alone after a relayed answer, whose tokens are not known."""
        if not self._body.is_streamed:
            return False
        if not self._is_relayed:
            return self._speech_of_all().can_resume(target)
        place, model = self._find(target)
        if place.continues == "no" or "prefill" not in model.abilities or self._body.holds_form:
            return False
        return self._body.num_answers == 1 and partial_of(self._said) is not None

    def ending(self, sent: Sent, *, is_late: bool) -> list[Piece]:
        """A stream that the deadline cuts ends as one that reached its length."""
        if not (is_late and self._body.is_streamed and self._body.num_answers == 1 and self._said):
            return []
        stream = ChatStream(new_id(), self._request())
        stream.skip_opening(0)
        data = stream.push(Delta(0, "", 0, finish_reason="length", ended_by="deadline"))
        self.is_over, self.route = True, self._route(sent)
        self.ending_seen = Ending(finish_reason="length")
        return [Piece(data, 0, True, self.ending_seen)]

    def _speech_of_all(self) -> Speech:
        """The answer in our own words, after what was relayed of it."""
        if self._speech is None:
            request = self._request()
            if self._is_relayed and (partial := partial_of(self._said)) is not None:
                request = replace(request, partial=partial)
            self._speech = Speech(request, self._find, self._route, self._seed)
        return self._speech

    async def _in_our_words(
        self, model: Model, events: AsyncGenerator[Prompted | Delta, None], *, num_before: int, resume: bool
    ) -> AsyncGenerator[Piece, None]:
        request = replace(self._request(), model=model.id)
        if not self._body.is_streamed:
            yield await self._answer_whole(request, events)
            return
        stream = ChatStream(new_id(), request)
        if resume:
            stream.skip_opening(0)
        counts = _Counts(num_before)
        async with aclosing(events):
            async for event in events:
                data = stream.push(event)
                counts.push(event)
                if data or isinstance(event, Delta):
                    yield Piece(data, counts.last, counts.commits, event=event)
        ending = Ending(counts.usage(), stream.usage(*counts.three).removesuffix(b"\n\n"), counts.reason)
        yield Piece(b"", 0, True, ending)

    async def _answer_whole(self, request: Request, events: AsyncGenerator[Prompted | Delta, None]) -> Piece:
        answer, counts = ChatAnswer(new_id(), request), _Counts()
        async with aclosing(events):
            async for event in events:
                answer.push(event)
                counts.push(event)
        return Piece(answer.body(*counts.three), 0, True, Ending(counts.usage(), b"", counts.reason))


class _Counts:
    """Tokens of an answer in our own words.  last  of the event pushed last;  commits: it says or ends something

    num_before  of the answer that another place had given, which this one counts as a part of its prompt
    """

    def __init__(self, num_before: int = 0) -> None:
        self._num_before = num_before
        self.num_prompt = self.num_cached = self.num_answer = self.last = 0
        self.commits = False
        self.reason: str | None = None
        self._usage: Usage | None = None

    def push(self, event: Prompted | Delta) -> None:
        if isinstance(event, Prompted):
            self.num_prompt += event.num_tokens
            return
        self.last = event.num_tokens
        self.num_answer += event.num_tokens
        self.commits = bool(event.text or event.reasoning or event.tool_calls or event.finish_reason)
        if event.finish_reason is not None:
            self.reason = event.finish_reason
            self.num_cached = max(self.num_cached, event.num_cached)
            self._usage = event.usage or self._usage

    @property
    def three(self) -> tuple[int, int, int]:
        usage = self.usage()
        return usage.num_prompt, usage.num_cached, usage.num_answer

    def usage(self) -> Usage:
        usage, before = self._usage or Usage(self.num_prompt, self.num_answer, self.num_cached), self._num_before
        return replace(usage, num_prompt=max(0, usage.num_prompt - before), num_answer=usage.num_answer + before)


def partial_of(said: list[bytes]) -> Partial | None:
    """What an answer had said when it broke off, read from its frames.  None where nobody could go on with it: calls
    of tools, refusals, and thoughts whose words have not begun."""
    texts, thoughts, num_tokens = [], [], 0
    for raw in b"".join(said).split(b"\n\n"):
        delta = _delta(raw)
        if any(delta.get(name) for name in SPOKEN if name not in ("content", "reasoning_content", "reasoning")):
            return None
        texts.append(delta.get("content") or "")
        thoughts.append(delta.get("reasoning_content") or delta.get("reasoning") or "")
        num_tokens += bool(texts[-1] or thoughts[-1])
    text, thought = "".join(texts), "".join(thoughts)
    return None if thought and not text else Partial(text, thought, num_tokens=num_tokens)


def _delta(raw: bytes) -> dict[str, Any]:
    data = payload_of(raw)
    try:
        chunk = msgspec.json.decode(data) if data else {}
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}  # what follows the commit point is passed on unread, whatever it is
    choices = chunk.get("choices") if isinstance(chunk, dict) else None
    delta = choices[0].get("delta") if choices else None
    return delta if isinstance(delta, dict) else {}


__all__ = ["Doors", "RelayExchange", "partial_of"]
