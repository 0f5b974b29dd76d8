"""From a request and its deadline to an `Ask`: what of it matters to the choice."""

from __future__ import annotations

from isochrone.budget import Deadline
from isochrone.places.place import Ability, Chat, Request, Text, TokenIds

from .records import Ask

CHARS_PER_TOKEN, NEWEST_WEIGHT = 4.0, 0.1
NUM_TURN_TOKENS = 4
"""What a template puts around a turn."""


class Density:
    """Characters per token, learned for each model from the prompts that places counted."""

    def __init__(self) -> None:
        self._chars: dict[str, float] = {}

    def num_tokens(self, request: Request, text: str) -> int:
        """Estimate of a prompt's tokens."""
        if isinstance(request.prompt, TokenIds):
            return len(request.prompt.ids)
        num_turns = len(request.prompt.messages) if isinstance(request.prompt, Chat) else 0
        return 1 + NUM_TURN_TOKENS * num_turns + int(len(text) / self._chars.get(request.model, CHARS_PER_TOKEN))

    def learn(self, request: Request, text: str, num_prompt: int) -> None:
        """A place counted so many."""
        if isinstance(request.prompt, TokenIds):
            return
        num_turns = len(request.prompt.messages) if isinstance(request.prompt, Chat) else 0
        num_words = num_prompt - NUM_TURN_TOKENS * num_turns
        if num_words < 16 or len(text) < 64:
            return  # templates weigh more than words here
        before = self._chars.get(request.model, CHARS_PER_TOKEN)
        actual = min(16.0, max(0.5, len(text) / num_words))
        self._chars[request.model] = before + NEWEST_WEIGHT * (actual - before)


def needs_of(request: Request) -> frozenset[Ability]:
    """Abilities without which a place cannot answer."""
    needs: set[Ability] = set()
    if isinstance(request.prompt, Chat):
        if request.prompt.tools and request.prompt.tool_choice.mode != "none":
            needs.add("tools")
    elif isinstance(request.prompt, Text):
        needs.add("text")
    else:
        needs.add("ids")
    if request.format is not None:
        needs.add("schema" if request.format.kind == "json_schema" else "grammar")
    if request.num_top is not None:
        needs.add("logprobs")
    if request.n > 1:
        needs.add("several")
    if request.partial is not None:
        needs.add("prefill")
    return frozenset(needs)


def route_of(request: Request) -> str:
    """Whose answers are about as long as this one's will be."""
    kind = "text"
    if isinstance(request.prompt, Chat):
        kind = "tools" if request.prompt.tools else "chat"
    return f"{request.tenant}/{request.model}/{'form' if request.format else kind}"


def ask_of(
    request: Request, deadline: Deadline, now: float, *, num_prompt: int, spent_usd: float, has_begun: bool,
    share_s: float | None, share_usd: float | None,
) -> Ask:  # fmt: skip
    """The ask of the next attempt: with what is left of the budget now.

    has_begun  the answer has: its first words are no matter any more
    share_*    of a run's step;  None: it is no step, or its run has no such limit
    """
    ttft_s = None if deadline.ttft_at is None or has_begun else max(0.0, deadline.ttft_at - now) or None
    total_s = max(1e-3, deadline.total_at - now) if request.dated else None
    cost_usd = None if deadline.cost_usd is None else max(0.0, deadline.cost_usd - spent_usd)
    return Ask(
        model=request.model, tenant=request.tenant, num_prompt=num_prompt, num_answer_max=request.max_tokens,
        needs=needs_of(request), route=route_of(request), ttft_s=ttft_s, itl_s=deadline.itl_s,
        total_s=_least(total_s, share_s), cost_usd=_least(cost_usd, share_usd), quality=deadline.quality,
        scope=deadline.scope, strict=deadline.strict, is_dated=request.dated,
    )  # fmt: skip


def _least(a: float | None, b: float | None) -> float | None:
    return min((value for value in (a, b) if value is not None), default=None)
