"""An agent with three tools, end to end: it looks things up, adds, and says that it is done."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Literal

from openai import OpenAI
from pydantic import BaseModel, ConfigDict, Field

from tests.clients.conftest import NAME

PRICES = {"apple": 3, "bread": 4, "cheese": 9}
Item = Literal["apple", "bread", "cheese"]
NUM_STEPS_MAX = 8


class Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Price(Arguments):
    """Look up what one piece of an item costs."""

    item: Item


class Add(Arguments):
    """Add two whole numbers."""

    first: int = Field(ge=0, le=999)
    second: int = Field(ge=0, le=999)


class Done(Arguments):
    """Say the total and end."""

    total: int = Field(ge=0, le=999)


TOOLS: dict[str, type[Arguments]] = {"price": Price, "add": Add, "done": Done}
RUN: dict[str, Callable[[Any], Any]] = {
    "price": lambda given: PRICES[given.item],
    "add": lambda given: given.first + given.second,
    "done": lambda given: given.total,
}


def offered() -> list[Any]:
    return [
        {"type": "function", "function": {
            "name": name, "description": kind.__doc__, "parameters": kind.model_json_schema(), "strict": True}}
        for name, kind in TOOLS.items()
    ]  # fmt: skip


def next_choice(step: int) -> Any:
    """Looks something up first and ends at the last step; in between the model chooses."""
    named = {0: "price", NUM_STEPS_MAX - 1: "done"}.get(step)
    return {"type": "function", "function": {"name": named}} if named else "required"


def test_an_agent_calls_its_tools_with_valid_arguments_and_comes_to_an_end(url: str) -> None:
    turns: list[Any] = [
        {"role": "system", "content": "You shop. Use price for each item, add the prices, then call done."},
        {"role": "user", "content": "What do an apple and a cheese cost together?"},
    ]
    called: list[str] = []
    cached: list[int] = []
    with OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        for step in range(NUM_STEPS_MAX):
            answer = client.chat.completions.create(
                model=NAME, messages=turns, tools=offered(), tool_choice=next_choice(step), parallel_tool_calls=False,
                temperature=0.7, seed=step, max_tokens=80,
            )  # fmt: skip
            choice = answer.choices[0]
            assert choice.finish_reason == "tool_calls"
            (call,) = choice.message.tool_calls or ()
            assert call.type == "function"
            given = TOOLS[call.function.name].model_validate_json(call.function.arguments)
            called.append(call.function.name)
            assert answer.usage is not None and answer.usage.prompt_tokens_details is not None
            cached.append(answer.usage.prompt_tokens_details.cached_tokens or 0)
            turns.append(choice.message)
            result = json.dumps(RUN[call.function.name](given))
            turns.append({"role": "tool", "tool_call_id": call.id, "content": result})
            if call.function.name == "done":
                break
    assert called[0] == "price" and called[-1] == "done" and len(called) >= 2
    assert all(cached[1:]), "each step finds the one before it in the cache"
