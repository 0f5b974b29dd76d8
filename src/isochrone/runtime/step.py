"""What an engine hands to a runtime for one step, and what comes back: arrays, and nothing of vocabulary size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

I32 = NDArray[np.int32]
F32 = NDArray[np.float32]
U32 = NDArray[np.uint32]

NUM_TOP_MAX = 20
"""Most alternatives returned beside a token, as the OpenAI API allows."""


@dataclass(frozen=True, slots=True)
class SamplingRows:
    """How each logit row becomes a token.  All arrays have one entry per row unless stated.

    temperature, top_p, min_p  f32 [rows]; temperature 0 is greedy, top_p 1 and min_p 0 are off
    top_k        i32 [rows]; 0 is off
    uniform      f32 [rows] in [0, 1): hashed by the engine from (seed, sample, position)
    targets      i32 [rows]: -1 draws a token; otherwise the row only scores this token
    edit_starts  i32 [rows + 1]: row r owns edits edit_starts[r] .. edit_starts[r + 1]
    edit_tokens  i32 [edits], edit_factors f32 [edits], edit_deltas f32 [edits]:
                 logit l of the token becomes (l / factor if l > 0 else l * factor) + delta
    mask         u32 [rows, ceil(vocab / 32)], bit set = allowed, or None
    """

    temperature: F32
    top_k: I32
    top_p: F32
    min_p: F32
    uniform: F32
    targets: I32
    edit_starts: I32
    edit_tokens: I32
    edit_factors: F32
    edit_deltas: F32
    mask: U32 | None = None


@dataclass(frozen=True, slots=True)
class StepBatch:
    """One step of the model: the new tokens of some sequences, each at its place in the paged cache.

    token_ids   i32 [tokens], the sequences' new tokens one after another
    positions   i32 [tokens], consecutive within a sequence
    starts      i32 [sequences + 1]: sequence s owns tokens starts[s] .. starts[s + 1]
    pages       i32 [sequences, pages_max]: pages of the cache in order of position, -1 past the end;
                position p of a sequence lives in pages[s, p // page_tokens]
    logit_rows  i32 [rows]: the tokens (indices into token_ids) whose logits are wanted
    sampling    how each of these rows becomes a token
    num_top     alternatives wanted for each row, 0 .. NUM_TOP_MAX
    """

    token_ids: I32
    positions: I32
    starts: I32
    pages: I32
    logit_rows: I32
    sampling: SamplingRows
    num_top: int = 0


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step gave, one entry per logit row.

    tokens        i32 [rows]: the token drawn (or the target)
    logprobs      f32 [rows]: its log-probability under the unedited, untempered distribution
    finite        bool [rows]: False where the row's logits are not all finite; its token means nothing
    top_tokens    i32 [rows, num_top], top_logprobs f32 [rows, num_top]: the likeliest, best first
    failed        indices of sequences whose keys or values were not finite: they must leave the batch
    lost          indices of sequences whose cache was lost (a site lost a machine): replay them
    """

    tokens: I32
    logprobs: F32
    finite: NDArray[np.bool_]
    top_tokens: I32
    top_logprobs: F32
    failed: tuple[int, ...] = ()
    lost: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class RuntimeInfo:
    """What an engine must know of the runtime under it.

    page_tokens  positions per page of the KV cache
    num_pages    pages in the cache
    num_tokens_max, num_sequences_max, num_rows_max   limits of one step
    page_bytes  what `read_pages` gives for one page
    """

    vocab_size: int
    context: int
    page_tokens: int
    num_pages: int
    num_tokens_max: int
    num_sequences_max: int
    num_rows_max: int
    plan_hash: str
    kv_type: str
    page_bytes: int = 0


class Runtime(Protocol):
    """Executes steps of one loaded model.  A CPU, a GPU or a site of machines: the engine cannot tell."""

    @property
    def info(self) -> RuntimeInfo: ...

    def step(self, batch: StepBatch) -> StepResult:
        """Run one step.  The caller guarantees that every position written has a page."""
        ...

    def read_pages(self, pages: Sequence[int]) -> NDArray[np.uint8]:
        """Everything in these pages of the cache, u8 [pages, page_bytes], as copies."""
        ...

    def write_pages(self, pages: Sequence[int], data: NDArray[np.uint8]) -> None:
        """Put back what `read_pages` gave, into any pages."""
        ...

    def close(self) -> None:
        """Stop the workers and give the memory back.  Safe to call twice."""
        ...
