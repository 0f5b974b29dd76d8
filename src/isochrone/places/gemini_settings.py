"""What a place of Google's is told: which models, and what each of them understands.

What a model understands is guessed from its id where the operator does not say; the guesses are in one table here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from isochrone.errors import BadConfig

from .place import Ability, Price

Thinking: TypeAlias = Literal["no", "budget", "level"]
"""How a model is told how much to think: not at all, in tokens (Gemini 2.5), or by a level (Gemini 3)."""
SchemaWay: TypeAlias = Literal["json", "openapi", "no"]
"""How an answer is held to a schema: by JSON schema as it stands, or by Google's subset of OpenAPI's (Gemini 2.0)."""
Tier: TypeAlias = Literal["standard", "priority", "flex"]
FREE = Price()


@dataclass(frozen=True, slots=True)
class Skills:
    """What a model understands.

    least_thought  the fewest tokens of thought that it can be held to, where it thinks
    can_rest       it can be kept from thinking at all
    signs          it signs its calls, and wants the signature back with them
    """

    thinking: Thinking = "no"
    least_thought: int = 0
    can_rest: bool = False
    schema: SchemaWay = "json"
    tools: bool = True
    signs: bool = False


_KNOWN: tuple[tuple[str, Skills], ...] = (
    (r"gemini-2\.5-pro", Skills(thinking="budget", least_thought=128)),
    (r"gemini-2\.5-flash-lite", Skills(thinking="budget", least_thought=512, can_rest=True)),
    (r"gemini-2\.5", Skills(thinking="budget", can_rest=True)),
    (r"gemini-(1|2\.0)", Skills(schema="openapi")),
    (r"gemini-", Skills(thinking="level", signs=True)),
    (r"gemma-", Skills(schema="no", tools=False)),
)
"""By the beginning of a model's id; the first that fits counts.

Read on 24 November 2026 in stored copies of Google's pages: that Gemini 2.5 is told by a budget and 3 by a level, and
that 3 refuses calls without their signatures, while 2.5 does not (ai.google.dev/gemini-api/docs/thinking-mode and
docs/thought-signatures).  The budgets' bounds (2.5 Pro from 128 and never off, Flash from 0, Flash-Lite 0 or from 512)
are as the client gemini_ex 0.11 repeats them from Google.  Not read anywhere: that models before 2.5 are held by
OpenAPI's schemas alone, and that Gemma has neither tools nor schemas; both ask for less than there may be.
An operator states `skills` where this is wrong.
"""


def skills_of(model: str) -> Skills:
    """What a model is known to understand.  One that nobody here knows is asked for nothing special."""
    name = model.rpartition("/")[2]
    return next((skills for pattern, skills in _KNOWN if re.match(pattern, name)), Skills())


@dataclass(frozen=True, slots=True)
class GeminiModel:
    """One model of the place.

    id        as callers name it;  upstream: as Google does, with `publisher/` before it where that is not google
    thinking  of requests that do not say how much to think: tokens, or a level such as `low`; None: as the model does
    prefill   it goes on with an answer that was begun (Google does not promise that for any)
    """

    id: str
    upstream: str = ""
    skills: Skills | None = None
    context: int | None = None
    price: Price | None = None
    quality: float | None = None
    abilities: tuple[Ability, ...] | None = None
    regions: tuple[str, ...] = ()
    thinking: int | str | None = None
    prefill: bool = False

    @property
    def name(self) -> str:
        """As Google knows it."""
        return self.upstream or self.id

    @property
    def known(self) -> Skills:
        return self.skills or skills_of(self.name)


@dataclass(frozen=True, slots=True)
class GeminiSettings:
    """What is the same for every request to the place.

    url       None: Google's own
    tier      priority or flex: as a field for the Gemini API, as a header for Vertex AI
    capacity  of Vertex AI: `dedicated` uses bought throughput alone, `shared` leaves it alone; None: first that, then
              the other
    safety    (category, threshold) pairs in Google's words
    labels    for Google's bill, of Vertex AI
    remembers signatures of so many calls, to be sent back with them
    """

    models: tuple[GeminiModel, ...]
    url: str | None = None
    api_version: str | None = None
    price: Price = FREE
    tier: Tier | None = None
    capacity: Literal["dedicated", "shared"] | None = None
    safety: tuple[tuple[str, str], ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    silence_s: float = 120.0
    connect_s: float = 5.0
    remembers: int = 10_000

    def __post_init__(self) -> None:
        if self.capacity == "dedicated" and self.tier in ("priority", "flex"):
            raise BadConfig(
                f"capacity is dedicated, and tier is {self.tier}, which is a tier of shared capacity.",
                fix="Remove one of the two.",
            )
        for model in self.models:
            if model.thinking is not None and model.known.thinking == "no":
                raise BadConfig(
                    f"{model.name} is told how much to think, and is not known to think.",
                    fix="Remove thinking, or state the model's skills.",
                )
            if model.thinking in (0, "none") and not model.known.can_rest:
                raise BadConfig(
                    f"{model.name} is told not to think, and is known to think always.",
                    fix="Write thinking = \"minimal\", or state the model's skills.",
                )
