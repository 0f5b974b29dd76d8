"""The exchange of a `Request`: what a place says, what of it the caller has, and how another place goes on with it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any, Literal, TypeAlias

from msgspec.structs import replace

from isochrone.budget import Deadline
from isochrone.places.place import Delta, Model, Partial, Place, Prompted, Request, Usage
from isochrone.places.route import Route
from isochrone.routing.records import Target

from .exchange import Sent, Tally

Event: TypeAlias = Prompted | Delta
Find: TypeAlias = Callable[[Target], tuple[Place, Model]]


class Speech:
    """Fulfils `Exchange` for a request.

    find   the place and the model behind a target
    route  (the attempt whose words these are) -> what to tell of the answer's way
    seed   drawn for a request that states none: equal models then draw equal tokens
    """

    def __init__(self, request: Request, find: Find, route: Callable[[Sent], Route], seed: int) -> None:
        self._request, self._find, self._route, self._seed = request, find, route, seed
        base = request.partial or Partial()
        self._texts, self._thoughts = [base.text], [base.reasoning]
        self._ids = list(base.ids)
        self._num_tokens = max(len(base.ids), base.num_tokens)
        self._has_all_ids = len(base.ids) == self._num_tokens
        self._origin: str | None = None  # which model drew all ids; None: nobody has yet, "": not one and the same
        self._speaker: Sent | None = None
        self._num_before = 0  # tokens of the answer that were drawn when it was last to be gone on with
        self._num_finished = 0
        self._has_prompted = self._has_begun = self._has_called = False
        self._num_drawn = 0

    @property
    def is_over(self) -> bool:
        return self._num_finished >= self._request.n

    @property
    def num_drawn(self) -> int:
        """Tokens of the answer that were taken."""
        return self._num_drawn

    def open(self, target: Target, deadline: Deadline, *, resume: bool) -> AsyncGenerator[Event, None]:
        place, model = self._find(target)
        changes: dict[str, Any] = {"model": model.id}
        if model.same_as:
            changes["with_ids"] = True
            if self._request.sampling.seed is None:
                changes["sampling"] = replace(self._request.sampling, seed=self._seed)
        if resume:
            self._num_before = self._num_drawn
            ids = tuple(self._ids) if self._is_exact(place, model) else ()
            text, thought = "".join(self._texts), "".join(self._thoughts)
            changes["partial"] = Partial(text, thought, ids, self._num_tokens)
        return place.complete(replace(self._request, **changes), deadline)

    def count(self, item: Event, tally: Tally) -> bool:
        if isinstance(item, Prompted):
            tally.num_prompt = item.num_tokens
            return False
        tally.num_answer += item.num_tokens
        if item.finish_reason is not None:
            tally.num_cached = max(tally.num_cached, item.num_cached)
            if item.usage is not None:
                _replace_counts(tally, item.usage)
            return True
        return bool(item.text or item.reasoning or item.tool_calls)

    def take(self, item: Event, sent: Sent) -> Event | None:
        if isinstance(item, Prompted):
            if self._has_prompted:
                return None
            self._has_prompted = True
            return item
        if item.text:
            self._texts.append(item.text)
        if item.num_tokens:
            self._drew(item, sent)
        if item.finish_reason is None and self._has_begun and not (item.reasoning or item.tool_calls):
            return item
        return self._mark(item, sent)

    def can_resume(self, target: Target) -> bool:
        """By tokens where the model is the same; by text where the place takes the beginning of an answer.

        Not by text: calls and thoughts that have begun, answers held to a form and log-probabilities, since none of
        these could go on where they stopped.
        """
        request = self._request
        place, model = self._find(target)
        if request.n > 1 or place.continues == "no":
            return False
        if self._is_exact(place, model):
            return True
        is_words = not self._has_called and (bool("".join(self._texts)) or not any(self._thoughts))
        is_plain = request.format is None and request.num_top is None and not request.with_receipt
        return is_words and is_plain and not self._is_full and "prefill" in model.abilities

    def ending(self, sent: Sent, *, is_late: bool) -> list[Event]:
        if self._request.n > 1 or not (is_late or self._is_full):
            return []
        self._num_finished += 1
        ended_by: Literal["deadline"] | None = "deadline" if is_late else None
        return [Delta(0, "", 0, finish_reason="length", ended_by=ended_by, route=self._route(sent))]

    @property
    def _is_full(self) -> bool:
        """Every token that the caller allows was drawn."""
        return self._request.max_tokens is not None and self._num_tokens >= self._request.max_tokens

    def _is_exact(self, place: Place, model: Model) -> bool:
        if place.continues != "exactly" or not model.same_as or not self._has_all_ids:
            return False
        return self._origin is None or self._origin == model.same_as

    def _drew(self, item: Delta, sent: Sent) -> None:
        self._num_drawn += item.num_tokens
        self._num_tokens += item.num_tokens
        self._ids += item.ids
        self._has_all_ids = self._has_all_ids and len(item.ids) == item.num_tokens
        if sent is not self._speaker:
            self._speaker = sent
            same_as = self._find(sent.target)[1].same_as
            self._origin = same_as if self._origin in (None, same_as) else ""

    def _mark(self, item: Delta, sent: Sent) -> Delta:
        """What is rare: thoughts, calls, the first delta and the last."""
        if item.reasoning:
            self._thoughts.append(item.reasoning)
        self._has_called = self._has_called or bool(item.tool_calls)
        if item.finish_reason is not None:
            self._num_finished += 1
            return replace(item, route=self._route(sent), usage=self._usage(item.usage, sent))
        if not self._has_begun:
            self._has_begun = True
            return replace(item, route=self._route(sent))
        return item

    def _usage(self, usage: Usage | None, sent: Sent) -> Usage | None:
        """Of the whole answer: a place that went on counts what came before as a part of its prompt."""
        if usage is None or sent.why != "continued":
            return usage
        num_prompt = max(0, usage.num_prompt - self._num_before)
        return replace(usage, num_prompt=num_prompt, num_answer=usage.num_answer + self._num_before)


def _replace_counts(tally: Tally, usage: Usage) -> None:
    tally.num_prompt, tally.num_answer = usage.num_prompt, usage.num_answer
    tally.num_cached, tally.num_cache_written = usage.num_cached, usage.num_cache_written
