"""Whether a request can be taken at all: pure checks, each with a sentence for the caller."""

from __future__ import annotations

from isochrone.errors import BadRequest, CannotMeet, ContextTooLong, Overloaded
from isochrone.units import format_duration

from .records import EngineInfo, Submit

RETRY_S_MIN, RETRY_S_MAX = 1.0, 60.0


def expect_servable(submit: Submit, info: EngineInfo) -> int:
    """Most tokens the answer may have.  Raises BadRequest and ContextTooLong."""
    num_prompt, num_max = len(submit.prompt_ids), info.num_sequence_tokens_max
    _expect_known(submit, info.vocab_size)
    if submit.max_tokens is not None and submit.max_tokens < 0:
        raise BadRequest(
            f"max_tokens is {submit.max_tokens}.", fix="Send 0 or more, or leave it out.", param="max_tokens"
        )
    room = num_max - num_prompt
    if room < (1 if submit.max_tokens is None else submit.max_tokens):
        answer = "an answer" if submit.max_tokens is None else f"{submit.max_tokens} tokens of answer"
        raise ContextTooLong(
            f"The prompt has {num_prompt} tokens; with {answer} it does not fit the {num_max} of {_whose(info)}.",
            fix=f"Shorten the prompt or lower max_tokens to {max(0, room)}, or serve with a larger {_flag(info)}.",
            param="max_tokens" if room > 0 else "prompt",
        )
    return room if submit.max_tokens is None else submit.max_tokens


def expect_room(num_waiting: int, num_new: int, num_waiting_max: int, num_running: int, service_s: float) -> None:
    """Raises Overloaded when the queue is full.  service_s: what a request has lately taken."""
    if num_waiting + num_new <= num_waiting_max:
        return
    retry_after_s = min(max(service_s * num_waiting / max(1, num_running), RETRY_S_MIN), RETRY_S_MAX)
    raise Overloaded(
        f"{num_waiting} sequences wait already, of at most {num_waiting_max}; this request brings {num_new}.",
        fix=f"Ask again in {retry_after_s:.0f} s, or ask another place.",
        retry_after_s=retry_after_s,
    )


def too_late(predicted_s: float, budget_s: float) -> CannotMeet:
    """The answer to who cannot begin in time, or only at the cost of somebody who was promised it."""
    retry_after_s = min(max(predicted_s - budget_s, RETRY_S_MIN), RETRY_S_MAX)
    return CannotMeet(
        f"The first token would come after {format_duration(predicted_s)}, and the budget is "
        f"{format_duration(budget_s)}.",
        fix=f"Ask again in {retry_after_s:.0f} s, allow more time, shorten the prompt, or ask another place.",
        retry_after_s=retry_after_s,
        predicted_s=predicted_s,
    )


def itl_too_tight(itl_s: float, predicted_s: float, num_running: int) -> CannotMeet:
    """The answer to who wants tokens faster than they can come beside those who run."""
    return CannotMeet(
        f"Beside the {num_running} answers that run a token would take {format_duration(predicted_s)}, and the budget "
        f"is itl={format_duration(itl_s)}.",
        fix="Allow more time between tokens, ask again when fewer answers run, or ask another place.",
        retry_after_s=RETRY_S_MIN,
        predicted_s=predicted_s,
    )


def draining() -> Overloaded:
    """The answer to those who come while the engine finishes its work."""
    return Overloaded("The engine is shutting down.", fix="Ask again when it is back.", retry_after_s=RETRY_S_MIN)


def _expect_known(submit: Submit, vocab_size: int) -> None:
    if not submit.prompt_ids:
        raise BadRequest("The prompt has no tokens.", fix="Send at least one token.", param="prompt")
    params = submit.sampling
    for ids, param in (
        (submit.prompt_ids, "prompt"), (params.logit_bias, "logit_bias"), (params.stop_token_ids, "stop_token_ids"),
        (submit.eos_ids, "eos_ids"),
        *((resume.token_ids, "resume") for resume in submit.resume),
    ):  # fmt: skip
        if ids and not 0 <= min(ids) <= max(ids) < vocab_size:
            wrong = next(token for token in ids if not 0 <= token < vocab_size)
            raise BadRequest(
                f"{param} has the token id {wrong}, and the vocabulary ends at {vocab_size - 1}.",
                fix="Send ids of this model's own tokenizer.", param=param,
            )  # fmt: skip


def _whose(info: EngineInfo) -> str:
    return "the context" if info.num_sequence_tokens_max == info.context else "the whole KV cache"


def _flag(info: EngineInfo) -> str:
    return "--context" if info.num_sequence_tokens_max == info.context else "--kv-memory"
