"""Steps for any runtime, as an engine would make them, and what tests read from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from isochrone import paths
from isochrone.compiler.cache import library_for
from isochrone.compiler.isa import Target
from isochrone.compiler.plan import Address
from isochrone.compiler.table import ROWS_PANEL, KvType
from isochrone.runtime.cpu import CpuRuntime
from isochrone.runtime.load import prepare
from isochrone.runtime.reference import ReferenceRuntime, run_reference
from isochrone.runtime.step import Runtime, SamplingRows, StepBatch, StepResult

PAGE = 32


@dataclass(frozen=True)
class Part:
    """New tokens of one sequence: their ids, where they start, and the sequence's pages."""

    ids: np.ndarray
    first: int
    pages: Sequence[int]


def open_runtime(
    path: Path, target: Target, *, weights: str = "auto", kv_type: KvType = "bf16", num_threads: int = 2,
    num_pages: int = 64,
) -> CpuRuntime:  # fmt: skip
    """A runtime of any number of threads, whatever this machine has."""
    prepared = prepare(path, weights=weights, kv_type=kv_type, isa=target.name)
    library = library_for(prepared.plan.kernels, target, paths.cache_dir() / "kernels")
    return CpuRuntime(
        prepared.plan, library, prepared.weights, prepared.frequencies, context=prepared.context, num_pages=num_pages,
        num_threads=num_threads,
    )  # fmt: skip


def sampling(count: int, **changes: Any) -> SamplingRows:
    """Greedy rows without edits, but for what is changed."""
    filled = {
        "temperature": np.zeros(count, np.float32), "top_k": np.zeros(count, np.int32),
        "top_p": np.ones(count, np.float32), "min_p": np.zeros(count, np.float32),
        "uniform": np.zeros(count, np.float32), "targets": np.full(count, -1, np.int32),
        "edit_starts": np.zeros(count + 1, np.int32), "edit_tokens": np.zeros(0, np.int32),
        "edit_factors": np.zeros(0, np.float32), "edit_deltas": np.zeros(0, np.float32),
    }  # fmt: skip
    return SamplingRows(**{**filled, **changes})


def batch(parts: Sequence[Part], rows: Sequence[int] | None = None, num_top: int = 0, **changes: Any) -> StepBatch:
    """One step.  rows: tokens whose logits are wanted; None: all."""
    lengths = [len(part.ids) for part in parts]
    wanted = np.arange(sum(lengths)) if rows is None else np.array(rows)
    pages = np.full((len(parts), max(len(part.pages) for part in parts)), -1, np.int32)
    for at, part in zip(pages, parts, strict=True):
        at[: len(part.pages)] = part.pages
    return StepBatch(
        token_ids=np.concatenate([part.ids for part in parts]).astype(np.int32),
        positions=np.concatenate([np.arange(p.first, p.first + len(p.ids)) for p in parts]).astype(np.int32),
        starts=np.cumsum([0, *lengths]).astype(np.int32), pages=pages, logit_rows=wanted.astype(np.int32),
        sampling=sampling(len(wanted), **changes), num_top=num_top,
    )  # fmt: skip


def logits_after(runtime: CpuRuntime, num_rows: int) -> np.ndarray:
    """f32 [rows, vocab]: the logits that the last step left in the arena; it must have had one panel of rows."""
    assert num_rows <= ROWS_PANEL
    at, row_bytes, vocab = runtime.plan.regions[-1].many.args[:3]
    assert isinstance(at, Address) and isinstance(row_bytes, int) and isinstance(vocab, int)
    arena: np.ndarray = runtime._arena  # no part of the runtime's face: nothing of vocabulary size leaves it
    rows = arena[at.offset : at.offset + num_rows * row_bytes].view(np.float32).reshape(num_rows, -1)
    return rows[:, :vocab].copy()


def all_logits(runtime: Runtime, ids: np.ndarray, pages: Sequence[int]) -> np.ndarray:
    """f32 [tokens, vocab] of one sequence, computed in steps of at most a panel."""
    chunks = [Part(ids[at : at + ROWS_PANEL], at, pages) for at in range(0, len(ids), ROWS_PANEL)]
    return np.concatenate([logits(runtime, [part]) for part in chunks])


def logits(runtime: Runtime, parts: Sequence[Part]) -> np.ndarray:
    """f32 [tokens, vocab] of one step's tokens."""
    step = batch(parts)
    if isinstance(runtime, CpuRuntime):
        runtime.step(step)
        return logits_after(runtime, len(step.token_ids))
    assert isinstance(runtime, ReferenceRuntime)
    runtime._cache.begin(step.positions, step.starts, step.pages)
    inputs = {"token_ids": step.token_ids, "positions": step.positions, "logit_rows": step.logit_rows}
    (found,) = run_reference(runtime._graph, inputs, runtime._weights, runtime._cache)
    return np.asarray(found, np.float32)


def scored(runtime: Runtime, ids: np.ndarray, pages: Sequence[int], chunk: int, first: int = 0) -> np.ndarray:
    """f32 [tokens]: log-probabilities of the tokens that follow, the prompt cut in chunks; the last scores token 0."""
    targets = np.append(ids[1:], 0).astype(np.int32)
    results: list[StepResult] = []
    for at in range(0, len(ids), chunk):
        part = Part(ids[at : at + chunk], first + at, pages)
        results.append(runtime.step(batch([part], targets=targets[at : at + chunk])))
    return np.concatenate([result.logprobs for result in results])


def greedy(runtime: Runtime, prompt: Sequence[int], count: int, pages: Sequence[int]) -> list[int]:
    """The likeliest continuation."""
    ids, first, answer = np.array(prompt, np.int32), 0, []
    while len(answer) < count:
        result = runtime.step(batch([Part(ids, first, pages)], rows=[len(ids) - 1]))
        answer.append(int(result.tokens[0]))
        ids, first = result.tokens, first + len(ids)
    return answer
