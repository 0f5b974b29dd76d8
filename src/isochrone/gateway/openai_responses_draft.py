"""An answer as the Responses API tells it: deltas in, output items and events out.

    reasoning  ->  output_item.added, content_part.added, reasoning_text.delta ... done, content_part.done, item.done
    text       ->  output_item.added, content_part.added, output_text.delta ... done, content_part.done, item.done
    a call     ->  output_item.added, function_call_arguments.delta ... done, output_item.done

One item is open at a time: what belongs to another closes it.  A pure machine: it reads no clock and sends nothing.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol, TypeAlias

import msgspec

from isochrone.errors import BadRequest, IsochroneError, Overloaded
from isochrone.places.place import Delta, Prompted, Scored, ToolDelta

from .chunks import own_fields
from .openai_responses_tools import Offered

Body: TypeAlias = dict[str, Any]
Event: TypeAlias = tuple[str, Body]
"""(type, what it says beside its type and number)."""
Ended: TypeAlias = Literal["completed", "incomplete"]


class Draft:
    """One response while it is being written.

    head     its fields that do not change; `id` and `created_at` among them
    offered  how the caller knows the tools that the model calls
    scoring  whether text comes with log-probabilities
    timing   where its time went, for its usage; known at its end
    """

    def __init__(self, head: Body, offered: dict[str, Offered], *, scoring: bool = False) -> None:
        self._head, self._offered, self._scoring = head, offered, scoring
        self._suffix: str = head["id"].removeprefix("resp_")
        self._output: list[Body] = []
        self._open: _Open | None = None
        self._open_call = -1
        self._counts = [0, 0, 0, 0]  # prompt, cached, answer, reasoning
        self._extra: Body = {}
        self._finish: Body = {"status": "queued" if head["background"] else "in_progress"}
        self.has_begun = self.is_ended = False
        self.timing: Body | None = None

    def begin(self) -> list[Event]:
        """Reading has begun."""
        self.has_begun = True
        self._finish = {"status": "in_progress"}
        return [("response.created", {"response": self.body()}), ("response.in_progress", {"response": self.body()})]

    def push(self, event: Prompted | Delta) -> list[Event]:
        """What one event of the place changes."""
        if isinstance(event, Prompted):
            self._counts[0] += event.num_tokens
            return self.begin()
        events: list[Event] = []
        if event.reasoning:
            if not isinstance(self._open, _Thought):
                events += self._next(_Thought(*self._place("rs")))
            events += self._opened.add(event.reasoning, ())
        if event.text or (event.scored and not event.reasoning and isinstance(self._open, _Message)):
            if not isinstance(self._open, _Message):
                events += self._next(_Message(*self._place("msg"), scoring=self._scoring))
            events += self._opened.add(event.text, event.scored)
        for call in event.tool_calls:
            events += self._call(call)
        self._count(event)
        if event.finish_reason:
            events += self._end(event)
        return events

    def _call(self, call: ToolDelta) -> list[Event]:
        events: list[Event] = []
        if not isinstance(self._open, _Call | _CustomCall) or call.index != self._open_call:
            tool = self._offered.get(call.name, Offered(call.name))
            kind, prefix = (_CustomCall, "ctc") if tool.is_custom else (_Call, "fc")
            events += self._next(kind(*self._place(prefix), call, tool))
            self._open_call = call.index
        return events + (self._opened.add(call.arguments, ()) if call.arguments else [])

    def _count(self, event: Delta) -> None:
        self._counts[2] += event.num_tokens
        self._counts[3] += event.num_reasoning
        if event.finish_reason:
            self._counts[1] += event.num_cached

    def _end(self, event: Delta) -> list[Event]:
        self._extra |= own_fields(event)
        if event.finish_reason == "length":
            self._finish = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
        else:
            self._finish = {"status": "completed"}
        events: list[Event] = []
        if self._open is None and not self._output:  # nothing was said: an empty text, and not no answer
            events += self._next(_Message(*self._place("msg"), scoring=self._scoring))
        return events + self._close("incomplete" if event.finish_reason == "length" else "completed")

    def say(self, **extra: Any) -> None:
        """Facts of our own, under `isochrone`; those that are None are left out."""
        self._extra |= {name: value for name, value in extra.items() if value is not None}

    def end(self, now: float) -> list[Event]:
        """The place has said everything.  now  Unix time"""
        self.is_ended = True
        if self._finish["status"] == "completed":
            self._finish["completed_at"] = now
        return []

    def fail(self, error: IsochroneError) -> list[Event]:
        """It cannot be finished: closes what is open."""
        self.is_ended = True
        events = self._close("incomplete")
        self._finish = {"status": "failed", "error": {"code": _code(error), "message": str(error)}}
        return events

    def cancel(self) -> list[Event]:
        """Its caller does not want it any more: closes what is open."""
        self.is_ended = True
        events = [] if self.has_begun else self.begin()
        events += self._close("incomplete")
        self._finish = {"status": "cancelled"}
        return events

    def last(self) -> list[Event]:
        """The event that ends the stream."""
        status = self._finish["status"]
        kind = status if status in ("completed", "failed") else "incomplete"
        return [(f"response.{kind}", {"response": self.body()})]

    def not_stored(self, why: str) -> None:
        """It was to be kept, and is not."""
        self._head["store"] = False
        self.say(not_stored=why)

    @property
    def output(self) -> list[Body]:
        """The items so far."""
        return [*self._output, self._open.item("in_progress")] if self._open else list(self._output)

    def body(self) -> Body:
        """The response as it is now."""
        changing: Body = {"error": None, "incomplete_details": None, "completed_at": None} | self._finish
        if self._extra:
            changing["isochrone"] = dict(self._extra)
        usage = None
        if self._finish["status"] not in ("queued", "in_progress"):
            usage = _usage(*self._counts) | ({"timing": self.timing} if self.timing else {})
        return {**self._head, **changing, "output": self.output, "usage": usage}

    @property
    def _opened(self) -> _Open:
        assert self._open is not None
        return self._open

    def _place(self, kind: str) -> tuple[str, int]:
        """(id, index) of the next item; the id holds the response's, so that a reference finds it."""
        index = len(self._output) + (self._open is not None)
        return f"{kind}_{self._suffix}_{index}", index

    def _next(self, item: _Open) -> list[Event]:
        events = self._close("completed")
        self._open = item
        return events + item.start()

    def _close(self, status: Ended) -> list[Event]:
        if self._open is None:
            return []
        events = self._open.stop(status)
        self._output.append(self._open.item(status))
        self._open = None
        return events


class _Open(Protocol):
    """An item that is being written."""

    def start(self) -> list[Event]: ...
    def add(self, text: str, scored: tuple[Scored, ...]) -> list[Event]: ...
    def stop(self, status: Ended) -> list[Event]: ...
    def item(self, status: str) -> Body: ...


class _Message:
    def __init__(self, id: str, index: int, *, scoring: bool) -> None:
        self.id, self.index, self._scoring = id, index, scoring
        self._texts: list[str] = []
        self._scores: list[Body] = []

    def start(self) -> list[Event]:
        item = {"id": self.id, "type": "message", "role": "assistant", "status": "in_progress", "content": []}
        part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        return [
            ("response.output_item.added", {"output_index": self.index, "item": item}),
            ("response.content_part.added", self._at() | {"part": part}),
        ]

    def add(self, text: str, scored: tuple[Scored, ...]) -> list[Event]:
        self._texts.append(text)
        scores = [_score(token) for token in scored] if self._scoring else []
        self._scores += scores
        return [("response.output_text.delta", self._at() | {"delta": text, "logprobs": scores})]

    def stop(self, status: Ended) -> list[Event]:
        text = "".join(self._texts)
        return [
            ("response.output_text.done", self._at() | {"text": text, "logprobs": self._scores}),
            ("response.content_part.done", self._at() | {"part": self._part()}),
            ("response.output_item.done", {"output_index": self.index, "item": self.item(status)}),
        ]

    def item(self, status: str) -> Body:
        return {
            "id": self.id, "type": "message", "role": "assistant", "status": status, "content": [self._part()],
        }  # fmt: skip

    def _part(self) -> Body:
        return {"type": "output_text", "text": "".join(self._texts), "annotations": [], "logprobs": self._scores}

    def _at(self) -> Body:
        return {"item_id": self.id, "output_index": self.index, "content_index": 0}


class _Thought:
    def __init__(self, id: str, index: int) -> None:
        self.id, self.index = id, index
        self._texts: list[str] = []

    def start(self) -> list[Event]:
        item = {"id": self.id, "type": "reasoning", "summary": [], "content": [], "status": "in_progress"}
        return [
            ("response.output_item.added", {"output_index": self.index, "item": item}),
            ("response.content_part.added", self._at() | {"part": {"type": "reasoning_text", "text": ""}}),
        ]

    def add(self, text: str, scored: tuple[Scored, ...]) -> list[Event]:
        self._texts.append(text)
        return [("response.reasoning_text.delta", self._at() | {"delta": text})]

    def stop(self, status: Ended) -> list[Event]:
        return [
            ("response.reasoning_text.done", self._at() | {"text": "".join(self._texts)}),
            ("response.content_part.done", self._at() | {"part": self._part()}),
            ("response.output_item.done", {"output_index": self.index, "item": self.item(status)}),
        ]

    def item(self, status: str) -> Body:
        return {"id": self.id, "type": "reasoning", "summary": [], "content": [self._part()], "status": status}

    def _part(self) -> Body:
        return {"type": "reasoning_text", "text": "".join(self._texts)}

    def _at(self) -> Body:
        return {"item_id": self.id, "output_index": self.index, "content_index": 0}


class _Call:
    def __init__(self, id: str, index: int, call: ToolDelta, tool: Offered) -> None:
        self.id, self.index, self._call_id, self._tool = id, index, call.id, tool
        self._arguments: list[str] = []

    def start(self) -> list[Event]:
        return [("response.output_item.added", {"output_index": self.index, "item": self.item("in_progress")})]

    def add(self, text: str, scored: tuple[Scored, ...]) -> list[Event]:
        self._arguments.append(text)
        return [("response.function_call_arguments.delta", self._at() | {"delta": text})]

    def stop(self, status: Ended) -> list[Event]:
        said = {"name": self._tool.name, "arguments": "".join(self._arguments)}
        return [
            ("response.function_call_arguments.done", self._at() | said),
            ("response.output_item.done", {"output_index": self.index, "item": self.item(status)}),
        ]

    def item(self, status: str) -> Body:
        namespace = {"namespace": self._tool.namespace} if self._tool.namespace else {}
        return {
            "id": self.id, "type": "function_call", "call_id": self._call_id, "name": self._tool.name,
            "arguments": "".join(self._arguments), "status": status, **namespace,
        }  # fmt: skip

    def _at(self) -> Body:
        return {"item_id": self.id, "output_index": self.index}


class _CustomCall:
    """Its text comes as the one argument of a function, and is given as a whole when that is complete."""

    def __init__(self, id: str, index: int, call: ToolDelta, tool: Offered) -> None:
        self.id, self.index, self._call_id, self._tool = id, index, call.id, tool
        self._arguments: list[str] = []

    def start(self) -> list[Event]:
        return [("response.output_item.added", {"output_index": self.index, "item": self.item("in_progress")})]

    def add(self, text: str, scored: tuple[Scored, ...]) -> list[Event]:
        self._arguments.append(text)
        return []

    def stop(self, status: Ended) -> list[Event]:
        at, text = {"item_id": self.id, "output_index": self.index}, self._input()
        return [
            ("response.custom_tool_call_input.delta", at | {"delta": text}),
            ("response.custom_tool_call_input.done", at | {"input": text}),
            ("response.output_item.done", {"output_index": self.index, "item": self.item(status)}),
        ]

    def item(self, status: str) -> Body:
        namespace = {"namespace": self._tool.namespace} if self._tool.namespace else {}
        text = "" if status == "in_progress" else self._input()
        return {
            "id": self.id, "type": "custom_tool_call", "call_id": self._call_id, "name": self._tool.name,
            "input": text, "status": status, **namespace,
        }  # fmt: skip

    def _input(self) -> str:
        arguments = "".join(self._arguments)
        try:
            return str(msgspec.json.decode(arguments, type=dict[str, str])["input"])
        except (msgspec.DecodeError, KeyError):  # cut short: what there is
            return arguments


def _score(token: Scored) -> Body:
    top = [{"token": text, "logprob": logprob, "bytes": list(raw)} for text, raw, logprob in token.top]
    return {"token": token.text, "logprob": token.logprob, "bytes": list(token.raw), "top_logprobs": top}


def _usage(num_prompt: int, num_cached: int, num_answer: int, num_reasoning: int) -> Body:
    """Token counts as OpenAI gives them; writing to the cache is not counted (or charged) here."""
    return {
        "input_tokens": num_prompt,
        "input_tokens_details": {"cached_tokens": num_cached, "cache_write_tokens": 0},
        "output_tokens": num_answer,
        "output_tokens_details": {"reasoning_tokens": num_reasoning},
        "total_tokens": num_prompt + num_answer,
    }


def _code(error: IsochroneError) -> str:
    """One of the codes that OpenAI's clients know; the sentence says the rest."""
    if isinstance(error, BadRequest):
        return "invalid_prompt"
    return "rate_limit_exceeded" if isinstance(error, Overloaded) and error.status == 429 else "server_error"
