"""What the gateway and an engine say to each other: plain records, the same over a socket and within a thread.

Into the engine go Submit, Cancel, Drain and Shutdown; out of it come Ready or Failed once, then one StepOutput a step.
On the socket every record is msgpack behind a length of four bytes.  This file imports neither NumPy nor the engine,
so that the gateway stays small.
"""

from __future__ import annotations

import secrets
from typing import Literal

import msgspec

from isochrone import errors
from isochrone.budget import DEFAULT_TOTAL_S
from isochrone.errors import BadRequest, DeadlineExceeded, IsochroneError

FinishReason = Literal["stop", "length", "deadline"]
"""stop: an end or stop token was drawn.  length: max_tokens or the context is full.  deadline: total_at passed."""

Policy = Literal["budget", "edf", "fcfs"]
"""budget: refuse what cannot make it, order so that as many as possible do.  For comparison: edf takes all and serves
the earliest deadline first; fcfs in order of arrival."""

NUM_TOP_LOGPROBS_MAX = 20
NUM_SAMPLES_MAX = 128
MESSAGE_BYTES_MAX = 64 * 2**20


def _expect_within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:  # also refuses NaN
        raise BadRequest(
            f"{name} is {value}; it must lie between {low} and {high}.",
            fix=f"Send a {name.split(' ')[0]} within these bounds.",
            param=name.split(" ")[0],
        )


class SamplingParams(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """How tokens are drawn, in the words of the OpenAI API and of its open servers.

    temperature        0 is greedy
    top_k              0 is off;  top_p 1 is off;  min_p 0 is off
    repetition_penalty divides (or multiplies, below zero) the logits of tokens in prompt and answer; 1 is off
    presence_penalty, frequency_penalty   taken from the logits of tokens in the answer, once or per occurrence
    logit_bias         added to the logits of these tokens
    logprobs           whether each token comes with its log-probability
    top_logprobs       how many likeliest alternatives come with it, 0 .. 20
    seed               None: one is drawn when the request is taken
    n                  answers to the same prompt; sample i of a seed is always the same text
    ignore_eos         go on after an end token;  min_tokens: draw no end or stop token before this many
    stop_token_ids     tokens that end the answer besides the model's end tokens
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: dict[int, float] = {}
    logprobs: bool = False
    top_logprobs: int = 0
    seed: int | None = None
    n: int = 1
    ignore_eos: bool = False
    min_tokens: int = 0
    stop_token_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        _expect_within("temperature", self.temperature, 0.0, 100.0)
        _expect_within("top_k", self.top_k, 0, 2**31 - 1)
        _expect_within("top_p", self.top_p, 0.0, 1.0)
        _expect_within("min_p", self.min_p, 0.0, 1.0)
        _expect_within("repetition_penalty", self.repetition_penalty, 0.01, 100.0)
        _expect_within("presence_penalty", self.presence_penalty, -100.0, 100.0)
        _expect_within("frequency_penalty", self.frequency_penalty, -100.0, 100.0)
        _expect_within("top_logprobs", self.top_logprobs, 0, NUM_TOP_LOGPROBS_MAX)
        _expect_within("n", self.n, 1, NUM_SAMPLES_MAX)
        _expect_within("min_tokens", self.min_tokens, 0, 2**31 - 1)
        for token, bias in self.logit_bias.items():
            _expect_within(f"logit_bias of token {token}", bias, -100.0, 100.0)
        if self.seed is not None:
            _expect_within("seed", self.seed, -(2**63), 2**64 - 1)


class Grammar(msgspec.Struct, frozen=True, array_like=True):
    """What an answer must be: every token that would leave it is masked.

    kind    of `source`: a JSON schema as JSON text, a regular expression, or a Lark grammar in llguidance's dialect
    """

    kind: Literal["json_schema", "regex", "lark"]
    source: str


class Resume(msgspec.Struct, frozen=True, array_like=True):
    """A sample of a request that another engine had begun: the tokens already delivered of it."""

    sample: int
    token_ids: list[int]


class Submit(msgspec.Struct, frozen=True, array_like=True, tag=True, kw_only=True):
    """One request.

    id            chosen by whoever owns the engine (EngineClient does it), unique among the requests in flight
    tenant        whose prefixes it may share
    prompt_ids    at least one token
    max_tokens    None: as many as the context holds; 0: only read (and score) the prompt
    eos_ids       the model's end tokens, which end the answer unless ignore_eos
    arrived_at, ttft_at, total_at   instants on this machine's monotonic clock, seconds.  ttft_at orders; past total_at
                  a request without a token is refused and an answer begun ends with "deadline".  total_at None:
                  undated, ordered as if it were arrived_at + 60 s, and never ended for its age
    echo_logprobs log-probability of every prompt token but the first (Delta.prompt_logprobs)
    resume        samples to go on with (empty: all n from the start);  num_scored: prompt scores already delivered
    itl_s         seconds between tokens that the caller can bear; None: not stated
    grammar       what the answer must be;  drafts: whether tokens may be guessed ahead (the text is the same)
    pin_s         seconds for which the blocks of the prompt are kept from eviction, within the tenant's quota
    """

    prompt_ids: list[int]
    sampling: SamplingParams = SamplingParams()
    id: int = 0
    tenant: str = "local"
    max_tokens: int | None = None
    eos_ids: tuple[int, ...] = ()
    arrived_at: float = 0.0
    ttft_at: float | None = None
    total_at: float | None = None
    echo_logprobs: bool = False
    resume: tuple[Resume, ...] = ()
    num_scored: int = 0
    itl_s: float | None = None
    grammar: Grammar | None = None
    drafts: bool = True
    pin_s: float | None = None

    @property
    def order_at(self) -> float:
        """When it must have its first token, for the order of service."""
        total_at = self.arrived_at + DEFAULT_TOTAL_S if self.total_at is None else self.total_at
        return total_at if self.ttft_at is None else min(self.ttft_at, total_at)


class Cancel(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Nobody waits for this request any more (sample None), or for this one sample of it.  No answer comes."""

    id: int
    sample: int | None = None


class Drain(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Finish what was taken, refuse what comes."""


class Shutdown(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Stop now and exit."""


class Timing(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What one sample's service was like; instants on the monotonic clock, 0 where it never happened.

    num_forced    tokens that its grammar left no choice about;  num_drafted, num_accepted: guessed ahead, and right
    predicted_ttft_s  from arrival to first token, as it was predicted when it was taken; None when nothing was known
    """

    admitted_at: float
    first_token_at: float
    finished_at: float
    num_prompt: int
    num_generated: int
    num_cached: int
    num_preempted: int
    num_forced: int = 0
    num_drafted: int = 0
    num_accepted: int = 0
    predicted_ttft_s: float | None = None


TopLogprobs = list[tuple[int, float]]
"""The likeliest tokens at one place, best first, each with its log-probability."""


class Delta(msgspec.Struct, frozen=True, array_like=True):
    """What a step added to one sample of a request.

    token_ids        new tokens of the answer; the token that ended it is not among them (see stop_token_id)
    logprobs, top    one entry a token when asked, else empty
    prompt_logprobs, prompt_top   the next scores of the prompt, in order; the first is that of prompt_ids[1]
    finish_reason    set on a sample's last delta, together with timing
    """

    id: int
    token_ids: list[int]
    sample: int = 0
    finish_reason: FinishReason | None = None
    stop_token_id: int | None = None
    logprobs: list[float] = []
    top: list[TopLogprobs] = []
    prompt_logprobs: list[float] = []
    prompt_top: list[TopLogprobs] = []
    timing: Timing | None = None


class Refusal(msgspec.Struct, frozen=True, array_like=True):
    """A request that ends here without (the rest of) its answer, and why; nothing follows for this id."""

    id: int
    code: str
    message: str
    fix: str
    retry_after_s: float | None = None
    param: str | None = None
    predicted_s: float | None = None


class EngineStats(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """The engine after a step.  Totals count from its start; pages: free + cached + held = num_pages.

    pace  what steps take, as learned: factors of the constant, a token, a row and a pair, then how far prompt and
          decode steps are off them; empty until enough was seen
    """

    num_waiting: int = 0
    num_running: int = 0
    num_pages: int = 0
    num_pages_free: int = 0
    num_pages_cached: int = 0
    num_pages_held: int = 0
    num_steps_total: int = 0
    num_prefill_tokens_total: int = 0
    num_decode_tokens_total: int = 0
    num_cached_tokens_total: int = 0
    num_finished_total: int = 0
    num_refused_total: int = 0
    num_cancelled_total: int = 0
    num_preempted_total: int = 0
    num_replayed_total: int = 0
    num_failed_total: int = 0
    num_forced_total: int = 0
    num_drafted_total: int = 0
    num_accepted_total: int = 0
    num_deferred_total: int = 0
    num_spilled_total: int = 0
    num_restored_total: int = 0
    num_spill_broken_total: int = 0
    step_s: float = 0.0
    is_draining: bool = False
    pace: tuple[float, ...] = ()


class StepOutput(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Everything one step has to say."""

    deltas: list[Delta]
    refusals: list[Refusal]
    stats: EngineStats


class EngineInfo(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """The runtime under the engine, as the gateway may know it.

    num_sequence_tokens_max   prompt and answer together: the context, or the whole cache if that is smaller
    """

    vocab_size: int
    context: int
    page_tokens: int
    num_pages: int
    num_sequences_max: int
    num_sequence_tokens_max: int
    plan_hash: str
    kv_type: str


class Ready(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The model is loaded."""

    info: EngineInfo
    load_s: float


class Failed(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The model could not be loaded; the process exits."""

    code: str
    message: str
    fix: str


class EngineLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of one engine, below those of its runtime.

    num_running_max   sequences that hold pages at once (None: what the runtime takes in a step)
    num_waiting_max   sequences that may queue; the next one is refused as Overloaded
    num_step_tokens   tokens of a step (None: the runtime's)
    num_mixed_tokens  the same while some sequence decodes, which bounds its inter-token latency
    policy            who is taken, and in which order
    spill_bytes       cold blocks of the cache kept on disk at most (None: none), in spill_dir
    forces            whether tokens that a grammar forces are taken without running the model;  drafts: whether tokens
                      are guessed ahead, for requests that allow it.  Neither changes a text
    reuses            whether a prompt's known prefix is taken from the cache; False shows what that saves
    """

    num_running_max: int | None = None
    num_waiting_max: int = 256
    num_step_tokens: int | None = None
    num_mixed_tokens: int | None = None
    policy: Policy = "budget"
    spill_bytes: int | None = None
    spill_dir: str | None = None
    forces: bool = True
    drafts: bool = True
    reuses: bool = True

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, int) and not isinstance(value, bool) and value < 1:
                raise errors.BadConfig(f"{name} is {value}; it must be at least 1.", fix=f"Raise {name}.")


class EngineSpec(msgspec.Struct, frozen=True, kw_only=True):
    """How an engine process makes its runtime.

    load       "package.module:function", called with the arguments, returns a Runtime
    arguments  keyword arguments, plain data
    tokens     "package.module:function", called with the same arguments when the first grammar comes, returns the
               model's tokenizer; None: grammars are refused
    """

    load: str
    tokens: str | None = None
    arguments: dict[str, str | int | float | bool | list[str | int] | None] = {}
    limits: EngineLimits = EngineLimits()


ToEngine = Submit | Cancel | Drain | Shutdown
FromEngine = StepOutput | Ready | Failed

_ERRORS: dict[str, type[IsochroneError]] = {
    kind.code: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, IsochroneError) and kind is not IsochroneError
}


def refusal_of(id: int, error: IsochroneError) -> Refusal:
    """The record that carries an error to whoever waits for request `id`."""
    retry_after_s = error.retry_after_s if isinstance(error, errors.Overloaded) else None
    param = error.param if isinstance(error, BadRequest) else None
    predicted_s = error.predicted_s if isinstance(error, errors.CannotMeet) else None
    return Refusal(id, error.code, error.message, error.fix, retry_after_s, param, predicted_s)


def error_of(refusal: Refusal | Failed) -> IsochroneError:
    """The error that a refusal (or a failed load) carries, with its own type again."""
    kind = _ERRORS.get(refusal.code, IsochroneError)
    if issubclass(kind, errors.Overloaded):
        retry_after_s = getattr(refusal, "retry_after_s", None)
        error = kind(refusal.message, fix=refusal.fix, retry_after_s=1.0 if retry_after_s is None else retry_after_s)
        if isinstance(error, errors.CannotMeet):
            error.predicted_s = getattr(refusal, "predicted_s", None) or 0.0
        return error
    if issubclass(kind, BadRequest):
        return kind(refusal.message, fix=refusal.fix, param=getattr(refusal, "param", None))
    return kind(refusal.message, fix=refusal.fix)


def with_seed(submit: Submit) -> Submit:
    """The request with its seed fixed, so that a replay draws the same tokens."""
    if submit.sampling.seed is not None:
        return submit
    sampling = msgspec.structs.replace(submit.sampling, seed=secrets.randbits(63))
    return msgspec.structs.replace(submit, sampling=sampling)


def deadline_exceeded(late_s: float) -> DeadlineExceeded:
    """The refusal of a request whose total_at passed while it had no token yet."""
    return DeadlineExceeded(
        f"The request was still without its first token {late_s:.2f} s after its deadline.",
        fix="Allow more time (x-deadline-ms), shorten the prompt, or send it to a place with a shorter queue.",
    )
