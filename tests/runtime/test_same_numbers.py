"""Bit for bit the same numbers, however a step was put together and whoever computed it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isochrone.compiler.isa import Target
from isochrone.compiler.table import KvType, Word
from isochrone.runtime.cpu import CpuRuntime
from tests.compiler.harness import ALL_TARGETS

from .driving import PAGE, Part, batch, greedy, open_runtime, scored
from .small_models import SIZES, directory

LENGTH = 600
"""Three chunks of attention, the last one cut."""
IDS = np.random.default_rng(7).integers(0, SIZES["vocab_size"], LENGTH).astype(np.int32)
PAGES = tuple(range(-(-LENGTH // PAGE)))
SHUFFLED = tuple(int(page) for page in np.random.default_rng(8).permutation(64)[: len(PAGES)])


@dataclass(frozen=True)
class Case:
    """A model: 4-bit matrices with an 8-bit head over a bf16 cache, or f32 with a window over an int8 cache."""

    model_type: str
    overrides: dict[str, Any]
    weights: str
    kv_type: KvType


CASES = {
    "int4": Case("llama", {}, "int4", "bf16"),
    "window": Case("mistral", {"sliding_window": 300, "num_key_value_heads": 1}, "f32", "int8"),
}


@dataclass(frozen=True)
class Subject:
    """One model on one instruction set."""

    path: Path
    case: Case
    target: Target

    def open(self, num_threads: int = 2) -> CpuRuntime:
        case = self.case
        return open_runtime(
            self.path, self.target, weights=case.weights, kv_type=case.kv_type, num_threads=num_threads
        )


@pytest.fixture(scope="module", params=CASES)
def model(request: Any, home: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Case]:
    case = CASES[request.param]
    return directory(tmp_path_factory.mktemp("models") / "m", case.model_type, **case.overrides), case


@pytest.fixture(scope="module", params=ALL_TARGETS)
def subject(request: Any, model: tuple[Path, Case]) -> Subject:
    return Subject(*model, request.param)


@pytest.fixture(scope="module")
def runtime(subject: Subject) -> Iterator[CpuRuntime]:
    with closing(subject.open()) as made:
        yield made


@pytest.fixture(scope="module")
def whole(subject: Subject) -> np.ndarray:
    """Log-probabilities of the whole text in steps of 512, by one thread."""
    with closing(subject.open(num_threads=1)) as made:
        found = scored(made, IDS, PAGES, 512)
    assert np.isfinite(found).all() and found.std() > 0.1
    return found


@pytest.mark.parametrize("chunk", [1, 7, 32, 64, 512])
def test_how_a_prompt_is_cut_changes_no_bit(runtime: CpuRuntime, whole: np.ndarray, chunk: int) -> None:
    assert np.array_equal(scored(runtime, IDS, PAGES, chunk), whole)


def test_where_pages_lie_changes_no_bit(runtime: CpuRuntime, whole: np.ndarray) -> None:
    assert np.array_equal(scored(runtime, IDS, SHUFFLED, 64), whole)


@pytest.mark.parametrize("num_threads", [1, 2, 4])
def test_the_number_of_threads_changes_no_bit(subject: Subject, whole: np.ndarray, num_threads: int) -> None:
    with closing(subject.open(num_threads)) as made:
        assert np.array_equal(scored(made, IDS, PAGES, 512), whole)
        assert np.array_equal(scored(made, IDS, SHUFFLED, 5), whole)


def test_attention_of_few_tokens_is_the_same_walked_by_one_worker_as_split_and_merged(
    runtime: CpuRuntime, whole: np.ndarray
) -> None:
    room = runtime._context[Word.PARTIAL_ROWS_MAX]
    runtime._context[Word.PARTIAL_ROWS_MAX] = 0  # no room for partial sums: nothing is split
    try:
        assert np.array_equal(scored(runtime, IDS, PAGES, 3), whole)
    finally:
        runtime._context[Word.PARTIAL_ROWS_MAX] = room


def test_a_prefix_that_is_cached_already_need_not_be_computed_again(runtime: CpuRuntime, whole: np.ndarray) -> None:
    shared = 9 * PAGE
    scored(runtime, IDS[:shared], PAGES, 512)
    others = (*PAGES[:9], *range(40, 40 + len(PAGES) - 9))
    assert np.array_equal(scored(runtime, IDS[shared:], others, 50, first=shared), whole[shared:])


def test_which_logit_rows_are_asked_for_together_changes_no_bit(runtime: CpuRuntime, whole: np.ndarray) -> None:
    targets = np.append(IDS[1:], 0).astype(np.int32)
    for rows in ([], [511], [3, 2, 2, 500], list(range(33)), list(range(0, 512, 5)), list(range(512))):
        step = batch([Part(IDS[:512], 0, PAGES)], rows=rows, targets=targets[rows] if rows else targets[:0])
        assert np.array_equal(runtime.step(step).logprobs, whole[rows] if rows else whole[:0])


@dataclass
class Stream:
    """A sequence that is continued greedily."""

    prompt: np.ndarray
    pages: Sequence[int]
    tokens: list[int]
    logprobs: list[float]

    @property
    def next_part(self) -> Part:
        if not self.tokens:
            return Part(self.prompt, 0, self.pages)
        return Part(np.array(self.tokens[-1:], np.int32), len(self.prompt) + len(self.tokens) - 1, self.pages)


PROMPTS = (1, 40, 290, 3, 33, 20, 64, 9, 255, 31, 32, 130, 5, 17, 2, 8)
"""Lengths of prompts: beside short ones some that fill chunks of attention."""
NUM_ANSWERED = 6


def streams(count: int) -> list[Stream]:
    """Streams whose pages interleave, with room for their answers."""
    needed = [-(-(length + NUM_ANSWERED) // PAGE) for length in PROMPTS]
    pages = iter(np.random.default_rng(9).permutation(64).tolist())
    given = [tuple(next(pages) for _ in range(number)) for number in needed]
    return [Stream(IDS[i : i + PROMPTS[i]], given[i], [], []) for i in range(count)]


def advance(runtime: CpuRuntime, running: Sequence[Stream]) -> None:
    """One step in which each stream gets its next token."""
    parts = [stream.next_part for stream in running]
    ends = np.cumsum([len(part.ids) for part in parts]) - 1
    result = runtime.step(batch(parts, rows=ends.tolist()))
    for stream, token, logprob in zip(running, result.tokens, result.logprobs, strict=True):
        stream.tokens.append(int(token))
        stream.logprobs.append(float(logprob))


def advanced(runtime: CpuRuntime, running: list[Stream]) -> list[Stream]:
    """Answer: streams begin one after another as far as a step has room, and go on together."""
    waiting, active = list(running), []
    while waiting or any(len(stream.tokens) < NUM_ANSWERED for stream in running):
        active = [stream for stream in active if len(stream.tokens) < NUM_ANSWERED]
        while waiting and sum(len(s.next_part.ids) for s in [*active, waiting[0]]) <= 512:
            active.append(waiting.pop(0))
        advance(runtime, active)
    return running


@pytest.fixture(scope="module")
def alone(runtime: CpuRuntime) -> list[Stream]:
    """Each stream answered in steps of its own."""
    return [advanced(runtime, [stream])[0] for stream in streams(len(PROMPTS))]


@pytest.mark.parametrize("size", range(1, 17))
def test_the_company_in_a_step_changes_no_bit(runtime: CpuRuntime, alone: list[Stream], size: int) -> None:
    for stream, expected in zip(advanced(runtime, streams(size)), alone, strict=False):
        assert (stream.tokens, stream.logprobs) == (expected.tokens, expected.logprobs)


def test_a_sequence_that_was_preempted_goes_on_as_if_it_had_not_been(runtime: CpuRuntime, alone: list[Stream]) -> None:
    for stream, expected in zip(streams(4), alone, strict=False):
        for _ in range(3):
            advance(runtime, [stream])
        again = np.concatenate([stream.prompt, stream.tokens]).astype(np.int32)
        elsewhere = [63 - page for page in range(len(stream.pages))]
        rest = greedy(runtime, again, NUM_ANSWERED - 3, elsewhere)
        assert stream.tokens + rest == expected.tokens
