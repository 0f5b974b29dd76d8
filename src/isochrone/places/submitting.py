"""A request in the engine's words, once it is sure that the model can take it."""

from __future__ import annotations

from isochrone.budget import Deadline
from isochrone.engine import records
from isochrone.errors import BadRequest, ContextTooLong

from .place import Chat, Request
from .reader import Read, Reader


def to_submit(
    request: Request, read: Read, deadline: Deadline, info: records.EngineInfo, reader: Reader
) -> records.Submit:
    """The request in the engine's words, its seed fixed.  Raises BadRequest and ContextTooLong."""
    ids = read.ids
    _expect_fitting(request, len(ids), info.num_sequence_tokens_max)
    if not isinstance(request.prompt, Chat):
        expect_known(ids, info.vocab_size, "prompt")
    sampling = request.sampling
    expect_known(list(sampling.logit_bias), info.vocab_size, "logit_bias")
    expect_known(list(request.stop_token_ids), info.vocab_size, "stop_token_ids")
    submit = records.Submit(
        prompt_ids=ids,
        sampling=records.SamplingParams(
            temperature=sampling.temperature,
            top_k=sampling.top_k,
            top_p=sampling.top_p,
            min_p=sampling.min_p,
            repetition_penalty=sampling.repetition_penalty,
            presence_penalty=sampling.presence_penalty,
            frequency_penalty=sampling.frequency_penalty,
            logit_bias=sampling.logit_bias,
            logprobs=request.num_top is not None,
            top_logprobs=request.num_top or 0,
            seed=sampling.seed,
            n=request.n,
            ignore_eos=request.ignore_eos,
            stop_token_ids=request.stop_token_ids,
        ),
        tenant=request.tenant,
        max_tokens=request.max_tokens,
        eos_ids=reader.end_ids(request),
        arrived_at=deadline.arrived_at,
        ttft_at=deadline.ttft_at,
        total_at=deadline.total_at if request.dated else None,
        echo_logprobs=request.echo and request.num_top is not None,
        itl_s=deadline.itl_s,
        grammar=reader.grammar(request, read),
        drafts=request.drafts,
        pin_s=request.pin_s,
    )
    return records.with_seed(submit)


def _expect_fitting(request: Request, num_prompt: int, num_max: int) -> None:
    if num_prompt == 0:
        raise BadRequest("The prompt has no tokens.", fix="Send at least one character or token.", param="prompt")
    param = "messages" if isinstance(request.prompt, Chat) else "prompt"
    if num_prompt + min(1, 1 if request.max_tokens is None else request.max_tokens) > num_max:
        raise ContextTooLong(
            f"The prompt has {num_prompt} tokens, and the context holds {num_max}, answer included.",
            fix="Shorten the prompt, or serve the model with a larger --context.", param=param,
        )  # fmt: skip
    if num_prompt + (request.max_tokens or 0) > num_max:
        raise ContextTooLong(
            f"The prompt has {num_prompt} tokens and max_tokens is {request.max_tokens}: together more than the "
            f"{num_max} that the context holds.",
            fix=f"Lower max_tokens to {num_max - num_prompt}, or leave it out.", param="max_tokens",
        )  # fmt: skip


def expect_known(ids: list[int], num_tokens: int, param: str) -> None:
    """Raises BadRequest when an id is outside the vocabulary."""
    if ids and not 0 <= min(ids) <= max(ids) < num_tokens:
        wrong = next(id for id in ids if not 0 <= id < num_tokens)
        raise BadRequest(
            f"{param} has the token id {wrong}, and the vocabulary ends at {num_tokens - 1}.",
            fix="Send ids of this model's own tokenizer.", param=param,
        )  # fmt: skip
