"""What a place at Amazon Bedrock is told: where, with which models, and what each of them understands.

What a model understands is guessed from its id where the operator does not say; the guesses are in one table here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from isochrone.errors import BadConfig

from .bedrock_profiles import base_model
from .place import Ability, Price

SchemaWay: TypeAlias = Literal["output", "tool", "no"]
"""How an answer is held to a JSON schema.  `output`: Amazon's structured output (`outputConfig`), which guarantees it.
`tool`: the model must call a tool whose input has the schema, and the input is the answer; the model's own skill makes
it fit.  `no`: neither."""
CacheWay: TypeAlias = Literal["no", "5m", "1h"]
"""The longest that the model's prompt cache can hold a marked prefix."""
FREE = Price()


@dataclass(frozen=True, slots=True)
class Skills:
    """What a model understands of Converse beyond messages.

    tools    tool calls;  any_tool: it can be made to call one
    cache    how long a marked prefix is kept;  cache_tools: tools can be marked, too
    prefill  it goes on with an assistant's turn
    top_k    where `top_k` goes among its own fields; empty: it has none
    effort   how it is told how much to think: `output` in outputConfig, `field` as reasoning_effort, `no`
    thinks   it may think without being told to, and cannot be told not to
    """

    tools: bool = True
    any_tool: bool = False
    schema: SchemaWay = "no"
    cache: CacheWay = "no"
    cache_tools: bool = False
    prefill: bool = False
    top_k: tuple[str, ...] = ()
    effort: Literal["output", "field", "no"] = "no"
    thinks: bool = False


_CLAUDE = Skills(any_tool=True, schema="tool", cache="5m", cache_tools=True, prefill=True, top_k=("top_k",))
_KNOWN: tuple[tuple[str, Skills], ...] = (
    (r"anthropic\.claude-(v1|v2|instant)", Skills(tools=False, prefill=True, top_k=("top_k",))),
    (
        r"anthropic\.claude-3-(sonnet|haiku|opus|5-sonnet-20240620)",
        Skills(any_tool=True, schema="tool", prefill=True, top_k=("top_k",)),
    ),
    (r"anthropic\.claude-(3-[57]|(opus|sonnet)-4-(1-|2025))", _CLAUDE),
    (r"anthropic\.claude-(opus|sonnet|haiku)-4-5",
     Skills(any_tool=True, schema="output", cache="1h", cache_tools=True, prefill=True, top_k=("top_k",))),
    (r"anthropic\.claude", Skills(any_tool=True, schema="output", cache="1h", cache_tools=True, effort="output")),
    (r"amazon\.nova", Skills(any_tool=True, schema="tool", cache="5m", top_k=("inferenceConfig", "topK"))),
    (r"mistral\.magistral", Skills(schema="output", thinks=True)),
    (r"mistral\.(mistral-large-3|ministral)", Skills(schema="output")),
    (r"mistral\.(mistral-large|devstral)", Skills(any_tool=True, schema="tool")),
    (r"cohere\.command-r", Skills(top_k=("k",))),
    (r"openai\.gpt-oss", Skills(schema="output", effort="field", thinks=True)),
    (r"google\.gemma-3-4b", Skills()),
    (r"(google\.gemma|nvidia\.nemotron-nano-(9b|12b))", Skills(schema="output")),
    (r"(qwen\.qwen3-(next|vl)|minimax\.minimax-m2$|moonshot\.kimi-k2)", Skills(schema="output", thinks=True)),
    (r"(qwen|minimax|moonshotai|zai|nvidia)\.", Skills(any_tool=True, schema="output", thinks=True)),
    (r"deepseek\.v3", Skills(any_tool=True, schema="output", thinks=True)),
    (r"deepseek\.r1", Skills(tools=False, thinks=True)),
    (r"(amazon\.titan|ai21\.j2|meta\.llama[23]-|mistral\.mi[sx]tral-(7b|8x7b))", Skills(tools=False)),
)  # fmt: skip
"""By the beginning of a model's id; the first that fits counts.

Held against the table of models in litellm 1.110.2 (24 November 2026): tools, any_tool, cache with `1h`, prefill, and
schema, which is `output` where that table marks a response schema or structured output, and `tool` for Claude up to
4.1, Nova and the older Mistral Large.  That structured output of Converse exists for Claude 4.5 and Opus 4.6 is also in
Amazon's user guide ("Get validated JSON results from models").  Not stated by either, and so a guess on the side of
asking less: that Llama 2 and 3 are given no tools (they are asked by streams), which fields carry top_k and effort,
what `thinks`, and every model that is younger than that table.  An operator states `skills` where this is wrong.
"""


def skills_of(model: str) -> Skills:
    """What a model is known to understand.  A model that nobody here knows is offered tools, and nothing more; it may
    think."""
    name = base_model(model)
    return next((skills for pattern, skills in _KNOWN if re.match(pattern, name)), Skills(thinks=True))


@dataclass(frozen=True, slots=True)
class BedrockModel:
    """One model of the place.

    id        as callers name it;  upstream: a model's id, an inference profile's, or an ARN; empty: as `id`
    skills    None: as its id suggests
    regions   where Amazon may run it; empty: as its id says (see `bedrock_profiles.regions_of`)
    latency   `optimized` asks for the faster form of the model, where there is one
    tier      the service tier: priority, default, flex or reserved
    caches    mark the end of tools, system and conversation for the prompt cache with every request, and not only with
              steps of an agent's run and prompts that the caller pins
    streams   False for a model that only answers in one piece
    lax_tools calls need not fit their schemas, even where the caller asked for `strict` and the model cannot be held
              to it; without it such a request is refused
    fields    further fields in the model's own words (additionalModelRequestFields)
    """

    id: str
    upstream: str = ""
    skills: Skills | None = None
    context: int | None = None
    price: Price | None = None
    quality: float | None = None
    abilities: tuple[Ability, ...] | None = None
    regions: tuple[str, ...] = ()
    latency: Literal["standard", "optimized"] | None = None
    tier: Literal["priority", "default", "flex", "reserved"] | None = None
    caches: bool = False
    streams: bool = True
    lax_tools: bool = False
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """As Amazon knows it."""
        return self.upstream or self.id

    @property
    def known(self) -> Skills:
        return self.skills or skills_of(self.name)


@dataclass(frozen=True, slots=True)
class BedrockSettings:
    """A place at Amazon Bedrock.

    region     None: as boto3 finds it
    endpoint   None: AWS_ENDPOINT_URL_BEDROCK_RUNTIME, or else the region's own
    key        a Bedrock API key; None: AWS_BEARER_TOKEN_BEDROCK, or else a signature
    profile    of the shared files; None: as boto3 finds it
    guardrail  (identifier, version) that every request passes
    metadata   sent with every request for Amazon's own log; `{id}`, `{run}`, `{tenant}` and `{model}` stand for the
               request's
    silence_s  a stream that says nothing for so long is dead
    num_connections_max  0: no bound
    remembers  the signed thoughts before so many calls, to be sent back with them
    """

    models: tuple[BedrockModel, ...]
    region: str | None = None
    endpoint: str | None = None
    key: str | None = field(default=None, repr=False)
    profile: str | None = None
    price: Price = FREE
    guardrail: tuple[str, str] | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    silence_s: float = 120.0
    connect_s: float = 5.0
    num_connections_max: int = 0
    remembers: int = 10_000

    def __post_init__(self) -> None:
        if len(self.metadata) > 16:
            raise BadConfig(
                f"{len(self.metadata)} pairs of metadata are set, and Amazon takes 16.", fix="Leave some out."
            )
        for model in self.models:
            if model.known.cache == "no" and model.caches:
                raise BadConfig(
                    f"{model.name} has no prompt cache that is known here, but caches is set.",
                    fix="Remove caches, or state the model's skills.",
                )
