"""What a request can cost at most, known before any of it is spent: pure functions of the request."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from isochrone.errors import BadRequest
from isochrone.places.place import Chat, Prompt, Request, Text, TokenIds

from .limits import Limits

TOKEN_BYTES = 64
"""An answer's token with its text, in the records on its way and in an answer that is gathered."""
SCORE_BYTES = 256
"""One token's log-probability with its text and bytes, as objects and as JSON."""
CHARS_PER_TOKEN = 4
UNKNOWN_CONTEXT = 4096


@dataclass(frozen=True, slots=True)
class Cost:
    """num_tokens  of the prompt (guessed from its length) and of all answers;  num_bytes: memory for the answers"""

    num_tokens: int
    num_bytes: int


def cost_of(request: Request, context: int | None) -> Cost:
    """The most that a request can come to.  context  tokens of prompt and answer together, where that is known"""
    num_prompt = num_prompt_tokens(request.prompt)
    longest = max(0, (context or UNKNOWN_CONTEXT) - num_prompt)
    num_answer = request.n * (longest if request.max_tokens is None else min(request.max_tokens, context or 1 << 62))
    per_token = TOKEN_BYTES + (0 if request.num_top is None else SCORE_BYTES * (1 + request.num_top))
    num_scored = num_prompt if request.echo and request.num_top is not None else 0
    return Cost(num_prompt + num_answer, num_answer * per_token + num_scored * per_token * request.n)


def num_prompt_tokens(prompt: Prompt) -> int:
    """About how many; an answer's own count corrects it."""
    match prompt:
        case TokenIds(ids):
            return len(ids)
        case Text(text):
            return len(text) // CHARS_PER_TOKEN + 1
        case Chat(messages):
            return sum(len(message.content) // CHARS_PER_TOKEN + 4 for message in messages)


def expect_within(request: Request, cost: Cost, limits: Limits) -> None:
    """Raises BadRequest, which names the field that asks for too much."""
    if isinstance(request.prompt, Chat) and request.prompt.tools:
        _expect_fit_tools(request.prompt, limits)
    if request.format is not None:
        size = len(request.format.source.encode())
        if size > limits.format_bytes:
            raise BadRequest(
                f"The {request.format.kind} has {size:,} bytes, and this server takes {limits.format_bytes:,}.",
                fix="Shorten it: leave out descriptions, or split the task.", param="response_format",
            )  # fmt: skip
    if cost.num_bytes > limits.request_bytes:
        scores = "" if request.num_top is None else f", each with {1 + request.num_top} log-probabilities"
        raise BadRequest(
            f"{request.n} answers{scores} could come to {cost.num_bytes:,} bytes, and a request may have "
            f"{limits.request_bytes:,}.",
            fix="Lower n, max_tokens or the number of logprobs.", param="n",
        )  # fmt: skip


def _expect_fit_tools(chat: Chat, limits: Limits) -> None:
    if len(chat.tools) > limits.num_tools:
        raise BadRequest(
            f"There are {len(chat.tools)} tools, and this server takes {limits.num_tools}.",
            fix="Offer only those that this turn can need.", param="tools",
        )  # fmt: skip
    names = [tool.name for tool in chat.tools]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise BadRequest(
            f"Two tools have the name {twice[:80]!r}, so that a call could be of either.",
            fix="Give each tool a name of its own.", param="tools",
        )  # fmt: skip
    size = sum(len(msgspec.json.encode(tool)) for tool in chat.tools)
    if size > limits.tools_bytes:
        raise BadRequest(
            f"The tools have {size:,} bytes together, and this server takes {limits.tools_bytes:,}.",
            fix="Shorten their schemas, or offer fewer.", param="tools",
        )  # fmt: skip
