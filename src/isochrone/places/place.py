"""The one protocol behind which every place that can answer a request stands, and the one form a request has there.

A face of the gateway (OpenAI's, later others) parses its dialect into a `Request`; a place answers with `Prompted` once
and then with `Delta`s.  Nothing here knows HTTP, and nothing here knows how a place computes.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Literal, Protocol, TypeAlias

from msgspec import Struct

from isochrone.budget import Deadline

FinishReason: TypeAlias = Literal["stop", "length"]
"""`stop`: the model or a stop string ended the answer.  `length`: max_tokens, the context or the deadline did."""


class Message(Struct, frozen=True):
    """One turn of a conversation.  role  system, user or assistant"""

    role: str
    content: str
    name: str | None = None


class Chat(Struct, frozen=True):
    """A conversation, to be laid out by the model's own template.

    add_generation_prompt  end with the words that make the model answer
    """

    messages: tuple[Message, ...]
    add_generation_prompt: bool = True


class Text(Struct, frozen=True):
    """A text to continue as it stands.  add_special  put the model's opening token in front, if it has one"""

    text: str
    add_special: bool = True


class TokenIds(Struct, frozen=True):
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


class Request(Struct, frozen=True):
    """What a caller wants, whatever dialect it was said in.

    id          names it in logs and in the engine
    tenant      whose prefixes it may share
    max_tokens  most tokens of an answer; None is as many as the context leaves
    n           answers wanted
    stops       texts that end an answer; they are not part of it
    num_top     None: no logprobs.  Otherwise logprobs, with so many alternatives
    echo        give the prompt back in `Prompted`, with its logprobs when these are wanted
    dated       the caller stated a deadline: cut the answer there (otherwise it only orders the queue)
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


class Scored(Struct, frozen=True):
    """One token with its log-probability; None for the very first of a prompt, which nothing precedes.

    top  alternatives as (text, bytes, log-probability), best first
    """

    text: str
    raw: bytes
    logprob: float | None
    top: tuple[tuple[str, bytes, float], ...] = ()


class Prompted(Struct, frozen=True):
    """The prompt has been read.  Comes once, before any `Delta`.

    text, scored  the prompt itself, when `echo` was asked
    """

    num_tokens: int
    text: str = ""
    scored: tuple[Scored, ...] = ()


class Delta(Struct, frozen=True):
    """What one answer gained.

    index          which of the n answers
    num_tokens     tokens drawn for it, those whose text is still held back included
    finish_reason  set on an answer's last delta
    num_cached     on an answer's last delta: tokens of its prompt that the prefix cache had
    """

    index: int
    text: str
    num_tokens: int
    scored: tuple[Scored, ...] = ()
    finish_reason: FinishReason | None = None
    num_cached: int = 0


class Model(Struct, frozen=True):
    """A model that a place serves.

    context     most tokens of prompt and answer together; None until the place knows
    created_at  Unix time of its file, seconds
    """

    id: str
    context: int | None
    created_at: int
    owner: str = "isochrone"


class Load(Struct, frozen=True):
    """How busy a place is.  Blocks are of the KV cache; `held` belong to running sequences, `cached` can be evicted."""

    num_waiting: int = 0
    num_running: int = 0
    num_blocks_free: int = 0
    num_blocks_cached: int = 0
    num_blocks_held: int = 0
    num_restarts: int = 0


class Status(Struct, frozen=True):
    """A place as it is now.  state  `loading`, `ready`, `restarting` or `failed`; why  a sentence when it failed"""

    state: Literal["loading", "ready", "restarting", "failed"]
    models: tuple[Model, ...]
    load: Load = Load()
    why: str = ""


class Price(Struct, frozen=True):
    """What a million tokens cost there, in US dollars.  Own machines cost nothing more."""

    prompt_usd_per_million: float = 0.0
    completion_usd_per_million: float = 0.0


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

        Raises, before the first item, ContextTooLong, NotFound, Overloaded, DeadlineExceeded, BadRequest; at any time
        Unreachable and SequenceFailed.
        """
        ...

    async def tokenize(self, prompt: Prompt) -> list[int]:
        """The tokens a prompt becomes."""
        ...

    async def detokenize(self, ids: list[int]) -> str:
        """The text that tokens stand for.  Raises BadRequest when one is outside the vocabulary."""
        ...

    async def close(self) -> None: ...
