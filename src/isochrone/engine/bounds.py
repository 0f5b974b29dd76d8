"""What an engine may do, from what its runtime can do and what its owner allows."""

from __future__ import annotations

from isochrone.runtime.step import RuntimeInfo

from .records import EngineInfo, EngineLimits
from .schedule import Limits


def step_limits(info: RuntimeInfo, limits: EngineLimits) -> Limits:
    """The bounds of a step: the tighter of both, and a token and a row for whoever runs."""
    num_step_tokens = min(limits.num_step_tokens or info.num_tokens_max, info.num_tokens_max)
    num_running_max = min(
        limits.num_running_max or info.num_sequences_max, info.num_sequences_max, info.num_rows_max, num_step_tokens
    )
    num_mixed_tokens = min(limits.num_mixed_tokens or num_step_tokens, num_step_tokens)
    return Limits(
        num_running_max=num_running_max,
        num_step_tokens=num_step_tokens,
        num_mixed_tokens=max(num_mixed_tokens, num_running_max),
        num_rows_max=info.num_rows_max,
        page_tokens=info.page_tokens,
    )


def engine_info(info: RuntimeInfo, limits: Limits) -> EngineInfo:
    """The runtime as the gateway may know it."""
    return EngineInfo(
        vocab_size=info.vocab_size,
        context=info.context,
        page_tokens=info.page_tokens,
        num_pages=info.num_pages,
        num_sequences_max=limits.num_running_max,
        num_sequence_tokens_max=min(info.context, info.num_pages * info.page_tokens),
        plan_hash=info.plan_hash,
        kv_type=info.kv_type,
    )
