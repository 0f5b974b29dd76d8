"""The one protocol behind which every place that can answer a request stands, and the one form a request has there.

A face of the gateway (OpenAI's, later others) parses its dialect into a `Request`; a place answers with `Prompted` once
and then with `Delta`s.  Nothing here knows HTTP, and nothing here knows how a place computes.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, Literal, Protocol, TypeAlias, get_args

from msgspec import Struct

from isochrone.budget import Deadline

from .route import Route

FinishReason: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter"]
"""`stop`: the model or a stop string ended the answer.  `length`: max_tokens, the context or the deadline did.
`tool_calls`: the answer is calls of the caller's tools.  `content_filter`: a provider's filter cut it."""


class ToolCall(Struct, frozen=True):
    """A call that the model asked for in an earlier turn.  arguments  a JSON object, as text"""

    id: str
    name: str
    arguments: str


class Message(Struct, frozen=True, omit_defaults=True):
    """One turn of a conversation.

    role          system, user, assistant or tool
    tool_calls    an assistant's;  tool_call_id: which call a tool answers
    reasoning     what an assistant thought before it answered
    """

    role: str
    content: str
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    reasoning: str = ""


class Tool(Struct, frozen=True, omit_defaults=True):
    """A function that the caller offers.

    parameters  JSON schema of its arguments; None takes none
    strict      the arguments must fit the schema (they do whenever the model is held to a grammar)
    """

    name: str
    description: str = ""
    parameters: dict[str, Any] | None = None
    strict: bool = False


class ToolChoice(Struct, frozen=True):
    """mode  auto, none, or required;  name  with required: this very tool"""

    mode: Literal["auto", "none", "required"] = "auto"
    name: str | None = None


class Chat(Struct, frozen=True, tag="chat", omit_defaults=True):
    """A conversation, to be laid out by the model's own template.

    add_generation_prompt  end with the words that make the model answer
    parallel_tool_calls    whether one answer may hold several calls
    template_variables     further names for the template, such as enable_thinking
    """

    messages: tuple[Message, ...]
    add_generation_prompt: bool = True
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    parallel_tool_calls: bool = True
    template_variables: dict[str, Any] = {}


class Text(Struct, frozen=True, tag="text", omit_defaults=True):
    """A text to continue as it stands.  add_special  put the model's opening token in front, if it has one"""

    text: str
    add_special: bool = True


class TokenIds(Struct, frozen=True, tag="token_ids"):
    """Tokens to continue, taken as they are."""

    ids: tuple[int, ...]


Prompt: TypeAlias = Chat | Text | TokenIds


class Sampling(Struct, frozen=True):
    """How tokens are drawn.  temperature 0 is greedy; top_k 0, top_p 1 and min_p 0 are off; penalties as OpenAI and
    Hugging Face define them.

    seed  None draws a fresh one, so that two equal requests differ
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: dict[int, float] = {}
    seed: int | None = None


class Format(Struct, frozen=True):
    """What the text of an answer must be.  source  a JSON schema as JSON text, a regular expression, a Lark grammar"""

    kind: Literal["json_schema", "regex", "lark"]
    source: str


class Partial(Struct, frozen=True, omit_defaults=True):
    """What another place has already answered, to be gone on with: none of it is said again.

    ids   its tokens, where they are known and the model is the same: the answer goes on exactly
    text  its words;  reasoning: its thoughts
    num_tokens  how many tokens that was, where they are not known: max_tokens counts them
    """

    text: str = ""
    reasoning: str = ""
    ids: tuple[int, ...] = ()
    num_tokens: int = 0


class Request(Struct, frozen=True, omit_defaults=True):
    """What a caller wants, whatever dialect it was said in.

    id          names it in logs and in the engine
    tenant      whose prefixes it may share
    max_tokens  most tokens of an answer; None is as many as the context leaves
    n           answers wanted
    stops       texts that end an answer; they are not part of it
    num_top     None: no logprobs.  Otherwise logprobs, with so many alternatives
    echo        give the prompt back in `Prompted`, with its logprobs when these are wanted
    dated       the caller stated a deadline: cut the answer there (otherwise it only orders the queue)
    format      what the text must be
    drafts      whether tokens may be guessed ahead; the text is the same
    pin_s       seconds for which the prompt stays cached, within the tenant's quota
    with_receipt  say with the answer what is needed to compute it again
    with_ids    say the tokens of each delta (`Delta.ids`), so that another place can go on with the answer
    partial     what is answered already (n is 1);  max_tokens counts it
    run         the agent's run that this is a step of; empty for none
    """

    id: str
    model: str
    tenant: str
    prompt: Prompt
    max_tokens: int | None = None
    n: int = 1
    sampling: Sampling = Sampling()
    stops: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    num_top: int | None = None
    echo: bool = False
    dated: bool = False
    format: Format | None = None
    drafts: bool = True
    pin_s: float | None = None
    with_receipt: bool = False
    with_ids: bool = False
    partial: Partial | None = None
    run: str = ""


class Scored(Struct, frozen=True, omit_defaults=True):
    """One token with its log-probability; None for the very first of a prompt, which nothing precedes.

    top  alternatives as (text, bytes, log-probability), best first
    """

    text: str
    raw: bytes
    logprob: float | None
    top: tuple[tuple[str, bytes, float], ...] = ()


class Prompted(Struct, frozen=True, omit_defaults=True):
    """The prompt has been read.  Comes once, before any `Delta`.

    text, scored  the prompt itself, when `echo` was asked
    """

    num_tokens: int
    text: str = ""
    scored: tuple[Scored, ...] = ()


class ToolDelta(Struct, frozen=True, omit_defaults=True):
    """What one tool call gained.  index  of the call in its answer;  id, name  on its first delta only"""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


class Timing(Struct, frozen=True):
    """Where an answer's time went, seconds; predicted ones None where nobody predicted."""

    queue_s: float
    prefill_s: float
    decode_s: float
    num_forced: int = 0
    num_drafted: int = 0
    num_accepted: int = 0
    predicted_ttft_s: float | None = None


class Receipt(Struct, frozen=True):
    """What is needed to compute an answer again, token for token.

    model    the id that it was asked by
    grammar  (kind, source) of what held the answer to a form
    """

    model_hash: str
    plan_hash: str
    seed: int
    sample: int
    sampling: Sampling
    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]
    model: str = ""
    grammar: tuple[str, str] | None = None


class Usage(Struct, frozen=True):
    """What a provider counted, which is what it bills.

    num_cached  tokens of the prompt read from its cache;  num_cache_written: tokens put there
    """

    num_prompt: int
    num_answer: int
    num_cached: int = 0
    num_cache_written: int = 0
    num_reasoning: int = 0


class Delta(Struct, frozen=True, omit_defaults=True):
    """What one answer gained.

    index          which of the n answers
    num_tokens     tokens drawn for it, those whose text is still held back included
    finish_reason  set on an answer's last delta
    num_cached     on an answer's last delta: tokens of its prompt that the prefix cache had
    reasoning      what the model thought, where it is told apart from its answer;  num_reasoning: tokens of it
    tool_calls     what calls of tools gained
    ended_by       on the last delta: "deadline" when that cut the answer;  stopped_by: the stop string that ended it
    timing, receipt  on the last delta
    ids            the tokens drawn, when `with_ids` was asked and the place knows them
    usage          on the last delta, where a provider counts: it replaces the counts gathered until then
    route          on the first and on the last delta of a routed request: where it was answered, and at what price
    """

    index: int
    text: str
    num_tokens: int
    scored: tuple[Scored, ...] = ()
    finish_reason: FinishReason | None = None
    num_cached: int = 0
    reasoning: str = ""
    tool_calls: tuple[ToolDelta, ...] = ()
    ended_by: Literal["deadline"] | None = None
    stopped_by: str | None = None
    timing: Timing | None = None
    receipt: Receipt | None = None
    num_reasoning: int = 0
    ids: tuple[int, ...] = ()
    usage: Usage | None = None
    route: Route | None = None


class Details(Struct, frozen=True, omit_defaults=True):
    """What a place can say of a model beyond what a request needs; empty or None where it does not know.

    form       how its weights are held, such as q8_0
    licence    as its file or card names it
    template   source of its chat template;  thinks: that tells thoughts from words
    """

    num_parameters: int | None = None
    size_bytes: int | None = None
    form: str = ""
    licence: str = ""
    template: str = ""
    thinks: bool = False


Ability: TypeAlias = Literal["tools", "schema", "grammar", "logprobs", "several", "ids", "text", "prefill"]
"""What a request may need: tools; a JSON schema or another grammar for the answer; log-probabilities; n > 1; a prompt
of token ids; a prompt of plain text; going on with an assistant's turn."""
ABILITIES: tuple[Ability, ...] = get_args(Ability)


class Price(Struct, frozen=True):
    """What a million tokens cost, in US dollars.  Own machines cost nothing more.

    cached_prompt, cache_write  of tokens read from and put into the provider's cache; None: as the prompt's
    """

    prompt_usd_per_million: float = 0.0
    completion_usd_per_million: float = 0.0
    cached_prompt_usd_per_million: float | None = None
    cache_write_usd_per_million: float | None = None


ANSWER_TOKENS_MAX = 32_768
"""What an answer is taken for at most where neither its caller nor the model's context says less."""


def dearest_usd(price: Price, context: int | None, num_prompt: int, num_answer: int | None, n: int) -> float:
    """The most that a request can cost at a price.  num_answer  of each of n; None: as long as it may get"""
    longest = ANSWER_TOKENS_MAX if context is None else min(context, ANSWER_TOKENS_MAX)
    if num_answer is not None:
        longest = num_answer if context is None else min(num_answer, context)
    read_usd = max(price.prompt_usd_per_million, price.cache_write_usd_per_million or 0.0)
    return (num_prompt * read_usd + n * longest * price.completion_usd_per_million) / 1e6


class Model(Struct, frozen=True, omit_defaults=True):
    """A model that a place serves.

    context     most tokens of prompt and answer together; None until the place knows
    created_at  Unix time of its file, seconds
    abilities   what it can do there
    price       None: as the place's;  quality: a published benchmark score, 0 to 1, None where there is none
    same_as     names equal models alike wherever they run (the hash of weights, plan and numeric class); empty:
                unknown.  Only between equal names an answer goes on exactly
    """

    id: str
    context: int | None
    created_at: int
    owner: str = "isochrone"
    details: Details = Details()
    abilities: tuple[Ability, ...] = ABILITIES
    price: Price | None = None
    quality: float | None = None
    same_as: str = ""


class Load(Struct, frozen=True, omit_defaults=True):
    """How busy a place is.  Blocks are of the KV cache; `held` belong to running sequences, `cached` can be evicted.

    num_block_tokens  positions in a block; 0 until the place knows
    kv_used   share of the cache that is in use, where a place says it so;  headroom: share of the quota that a provider
              last said is left
    num_slots  requests that run at once, others wait;  0: not said
    """

    num_waiting: int = 0
    num_running: int = 0
    num_blocks_free: int = 0
    num_blocks_cached: int = 0
    num_blocks_held: int = 0
    num_restarts: int = 0
    num_block_tokens: int = 0
    kv_used: float | None = None
    headroom: float | None = None
    num_slots: int = 0


class Pace(Struct, frozen=True, omit_defaults=True):
    """What an engine of ours has learned of its steps: seconds = constant + token, row and pair times their numbers.

    A token passes every layer, a row is sampled, a pair is a new token that attends one position.
    prompt_off  how many times longer steps of mostly prompt take than that;  decode_off: the same of decoding
    """

    constant_s: float
    token_s: float
    row_s: float
    pair_s: float
    prompt_off: float = 1.0
    decode_off: float = 1.0


class Status(Struct, frozen=True, omit_defaults=True):
    """A place as it is now.  state  `loading`, `ready`, `restarting` or `failed`; why  a sentence when it failed

    pace  of an engine of ours, once it has learned one
    """

    state: Literal["loading", "ready", "restarting", "failed"]
    models: tuple[Model, ...]
    load: Load = Load()
    why: str = ""
    pace: Pace | None = None


class Place(Protocol):
    """Somewhere a request can be answered."""

    @property
    def name(self) -> str: ...

    @property
    def price(self) -> Price: ...

    @property
    def location(self) -> str:
        """Where the compute stands: `local`, or a region's name."""
        ...

    @property
    def continues(self) -> Literal["exactly", "roughly", "no"]:
        """Whether it can go on with an answer that another place began."""
        ...

    def status(self) -> Status: ...

    def complete(self, request: Request, deadline: Deadline) -> AsyncGenerator[Prompted | Delta, None]:
        """Answer.  Closing the generator early gives the slot back within a step.

        Raises, before the first item, ContextTooLong, NotFound, Overloaded (Throttled), DeadlineExceeded, BadRequest,
        PlaceRefused; at any time Unreachable, ContentFiltered and SequenceFailed.
        """
        ...

    async def tokenize(self, prompt: Prompt) -> list[int]:
        """The tokens a prompt becomes."""
        ...

    async def detokenize(self, ids: list[int]) -> str:
        """The text that tokens stand for.  Raises BadRequest when one is outside the vocabulary."""
        ...

    async def close(self) -> None: ...
